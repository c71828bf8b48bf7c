"""The Python client: `AsyncClient` on grpc.aio and `Client` on grpc's sync stack.

```
aio.py, sync.py        the public face      publish, subscribe, consume, read
*_receivers.py         what they return     context manager and iterator in one
*_connection.py        what a client holds  the channel and the streams on it
*_stream.py            drivers              one stream: open, read, write, reconnect
core/                  sans-I/O             what to send and what an answer means
```
The cores hold every decision and do no I/O: both clients share them, and the unit
tests need no server. Drivers know no message, only `core.stream.StreamCore`.
"""

from hermes.client import fork as fork  # sets grpc up for forks, before it is imported
