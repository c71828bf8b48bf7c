"""The command line for a person: a thin layer of words over the client.

Each command is a file; `main` assembles them. Everything here speaks gRPC through
`hermes.client` and never opens a store, except `serve`, which runs the server.

Rules: what was asked for goes to stdout, everything else to stderr. `--json` prints
one object per line. A failure is one line on stderr and exit code 1; a wrong
invocation, 2. Nothing that came from a message reaches a terminal unescaped.
"""
