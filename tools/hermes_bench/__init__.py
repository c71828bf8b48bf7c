"""hermes-bench: what Hermes does per second on this machine, and what its peers do.

    cli -> runner -> scenarios -> a System (a server process, one file per peer)
                              -> workers (client processes), each with a Driver

A workload is data (`workloads.py`); a system starts, checks and stops one server; a
driver is one client library behind one protocol. Whatever is counted is checked after
the clock has stopped, so that no figure is bought with a loss. The server's insides are
not known here: stores are read through `hermes.log` once their server has stopped.
"""
