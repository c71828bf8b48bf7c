"""The metrics over HTTP, for Prometheus: an address, a thread, and few requests at a time.

HTTP and rendering run on threads of their own; only the reading itself is asked of the
event loop. A loop that does not answer makes the scrape fail (503), which is the truth about
such a server. Any path is answered alike. What a request can do wrong ends that request;
nothing of it reaches stderr or the broker.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from socketserver import TCPServer, ThreadingMixIn
from typing import IO, TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from hermes import limits
from hermes.errors import UnavailableError
from hermes.server.config_checks import split_address
from hermes.server.endpoint import AddressError
from hermes.server.logs import get_logger
from hermes.server.metrics import Reading, ServerCollector
from hermes.server.status import internal_error

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# Of the event loop, for a reading; Prometheus waits ten seconds by default.
READ_SECS: Final = 5.0
# Of a client, for its request and for taking the answer.
_CLIENT_SECS: Final = 10.0
# How often the thread looks whether it is to end: what a stop may wait for it.
_LOOK_SECS: Final = 0.25

_log = get_logger("hermes.server")


class MetricsEndpoint:
    """An address that is taken at once and answers from `start` on."""

    def __init__(self, address: str, read: Callable[[], Coroutine[Any, Any, Reading]]) -> None:
        """`read` runs on the event loop. Raises AddressError when the address cannot be taken."""
        self._read = read
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        registry = CollectorRegistry()
        registry.register(ServerCollector(self._reading))
        ProcessCollector(registry=registry)
        self._render = make_wsgi_app(registry)
        host, port = split_address(address)
        try:
            self._server = _HttpServer(host, port)
        except OSError as error:
            reason = error.strerror or os.strerror(error.errno or 0)
            raise AddressError(
                f"cannot listen on {address} for metrics: {reason}",
                hint="choose another address with --metrics-addr",
            ) from None
        self._server.set_app(self._answer)
        port = self._server.server_port
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """Answer from now on, with readings of the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_LOOK_SECS,),
            name="hermes-metrics",
            daemon=True,
        )
        self._thread.start()

    async def stop(self) -> None:
        """Give the address back. Idempotent."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """The same, for an endpoint that may never have been started."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._server.shutdown()
            thread.join()
        self._server.server_close()

    # ---------------------------------------------------- the requests' threads

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        try:
            # Rendered before anything is sent: an error can still become a status.
            answer: list[bytes] = self._render(environ, start_response)
        except (TimeoutError, CancelledError, UnavailableError):
            return _refuse(start_response, "503 Service Unavailable", "the broker did not answer")
        except Exception as error:  # noqa: BLE001 - a bug must not leave as a traceback
            told = internal_error(error, "metrics")
            return _refuse(start_response, "500 Internal Server Error", str(told))
        return answer

    def _reading(self) -> Reading:
        """Raises TimeoutError, CancelledError or UnavailableError."""
        assert self._loop is not None
        reading = self._read()
        try:
            future = asyncio.run_coroutine_threadsafe(reading, self._loop)
        except RuntimeError:
            reading.close()
            raise UnavailableError("the server has stopped") from None
        try:
            return future.result(READ_SECS)
        finally:
            future.cancel()


def _refuse(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


class _HttpServer(ThreadingMixIn, WSGIServer):
    """A thread per request, of which there are few at a time."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError."""
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, _, _, _, target = infos[0]
        self._free = threading.BoundedSemaphore(limits.METRICS_REQUESTS_MAX)
        super().__init__((str(target[0]), port), _Handler)

    def server_bind(self) -> None:
        # As the base class, without asking for the host's name: that can take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: Any) -> None:
        _log.debug("a request for metrics broke off", exc_info=True)


class _Handler(WSGIRequestHandler):
    """Of one request; what it would write to stderr is nobody's concern."""

    timeout = _CLIENT_SECS

    def log_message(self, *_: Any, **__: Any) -> None:
        return

    def get_stderr(self) -> IO[str]:
        return io.StringIO()
