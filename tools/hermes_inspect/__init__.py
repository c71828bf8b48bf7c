"""hermes-inspect: reads a Hermes store without a server, and never writes to it.

Knows `hermes.log` and the record bodies; never the server's insides.
"""
