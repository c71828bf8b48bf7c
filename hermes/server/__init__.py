"""The gRPC server of the broker: configuration, services, start and stop.

await hermes.server.run("127.0.0.1:4222")

async with hermes.server.serving(ServerConfig(listen_addr="127.0.0.1:0")) as server:
    ...  # server.address
"""

from __future__ import annotations

from hermes.server.app import Server, run, run_with_config, run_with_shutdown, serving
from hermes.server.config import ServerConfig

__all__ = ["Server", "ServerConfig", "run", "run_with_config", "run_with_shutdown", "serving"]
