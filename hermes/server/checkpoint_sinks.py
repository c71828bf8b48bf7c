"""Where checkpoints go besides the log: a file, a command, a URL.

Theory: a checkpoint is worth what its distance from the store is worth, so sinks are meant
for another machine, and other machines fail. Each sink has a thread of its own and a short
queue; nobody ever waits for it. A newer checkpoint says all that an older one says, so a
full queue loses its oldest. What cannot be delivered after a few tries is counted and
logged, and the next one has its chance.

The broker knows nothing of this: what is signed is in the log in any case.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hermes import limits
from hermes.server.config import ServerConfig
from hermes.server.logs import get_logger

ATTEMPTS: Final = 3
RETRY_SECS: Final = 1.0  # doubles with each attempt
TIMEOUT_SECS: Final = 10.0
CONTENT_TYPE: Final = "text/plain; charset=utf-8"

_log = get_logger("hermes.server")

Deliver = Callable[[str], None]


class SinkError(Exception):
    """A delivery failed; the text says how, for a person."""


class Sink:
    """Delivers notes one by one on a thread of its own. Never blocks whoever gives them."""

    def __init__(self, name: str, deliver: Deliver) -> None:
        self.name = name
        self.delivered = 0
        self.failed = 0  # notes given up on, or lost from a full queue
        self._deliver = deliver
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._leaving = threading.Event()
        # Daemon: a sink that hangs does not keep the process alive.
        self._thread = threading.Thread(
            target=self._run, name=f"hermes-checkpoint-{name}", daemon=True
        )
        self._thread.start()

    def give(self, note: str) -> None:
        """Queue a note. A full queue loses its oldest."""
        lost = False
        with self._changed:
            if len(self._waiting) >= limits.CHECKPOINTS_WAITING_MAX:
                self._waiting.popleft()
                lost = True
            self._waiting.append(note)
            self._changed.notify()
        if lost:
            self._give_up("the sink is too slow")

    def leave(self) -> None:
        """Deliver what waits, without further retries, and end."""
        self._leaving.set()
        with self._changed:
            self._changed.notify()

    def join(self, timeout_secs: float) -> None:
        """After `leave`: wait for the end, that long at most; 0: it ends by itself, some time."""
        self._thread.join(timeout_secs)
        if timeout_secs and self._thread.is_alive():
            _log.warning("a checkpoint sink did not finish", sink=self.name)

    def _run(self) -> None:
        while (note := self._next()) is not None:
            try:
                self._try(note)
            except SinkError as error:
                self._give_up(str(error))
            else:
                self.delivered += 1

    def _next(self) -> str | None:
        with self._changed:
            while not self._waiting:
                if self._leaving.is_set():
                    return None
                self._changed.wait()
            return self._waiting.popleft()

    def _try(self, note: str) -> None:
        """A few attempts. Raises SinkError for the last."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._deliver(note)
            except SinkError:
                if attempt == ATTEMPTS or self._leaving.is_set():
                    raise
            else:
                return
            self._leaving.wait(RETRY_SECS * 2 ** (attempt - 1))

    def _give_up(self, problem: str) -> None:
        self.failed += 1
        _log.warning(
            "a checkpoint was not delivered", sink=self.name, problem=problem, failed=self.failed
        )


# ------------------------------------------------------------------- deliveries


def to_file(path: Path) -> Deliver:
    """Append to a file, followed by an empty line, and sync it. Each time opened anew, so
    that the file may be moved away."""

    def deliver(note: str) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                data = f"{note}\n".encode()
                if os.write(fd, data) != len(data):
                    # The next try begins on a line of its own; readers report the torn note.
                    os.write(fd, b"\n\n")
                    raise SinkError(f"{path}: written in part: no space left?")
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise SinkError(f"{path}: {error.strerror}") from error

    return deliver


def to_command(arguments: Sequence[str]) -> Deliver:
    """Run a program (no shell) with the note on its standard input; exit code 0 is success."""

    def deliver(note: str) -> None:
        try:
            done = subprocess.run(
                arguments,
                input=note.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_SECS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SinkError(f"{arguments[0]} took longer than {TIMEOUT_SECS:g} s") from None
        except OSError as error:
            raise SinkError(f"{arguments[0]}: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-limits.REASON_BYTES_MAX :]
            raise SinkError(f"{arguments[0]} ended with {done.returncode}: {said}")

    return deliver


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and the note would be lost."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def to_url(url: str) -> Deliver:
    """POST the note; any status from 200 to 299 is success. Certificates are checked."""
    opener = urllib.request.build_opener(_NoRedirect)
    host = urlsplit(url).hostname  # the rest of a URL may hold a secret

    def deliver(note: str) -> None:
        request = urllib.request.Request(  # noqa: S310 - the setting allows http and https only
            url, note.encode(), {"Content-Type": CONTENT_TYPE, "User-Agent": "hermes"}
        )
        try:
            with opener.open(request, timeout=TIMEOUT_SECS):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise SinkError(f"{host} answered {error.code}") from error
        except urllib.error.URLError as error:
            raise SinkError(f"{host}: {error.reason}") from error
        except (OSError, ValueError) as error:  # timeouts, broken answers
            raise SinkError(f"{host}: {type(error).__name__}") from error

    return deliver


def open_sinks(config: ServerConfig) -> list[Sink]:
    """The sinks that the settings ask for, running."""
    sinks = []
    if config.checkpoint_file is not None:
        sinks.append(Sink("file", to_file(config.checkpoint_file)))
    if config.checkpoint_command is not None:
        sinks.append(Sink("command", to_command(shlex.split(config.checkpoint_command))))
    if config.checkpoint_url is not None:
        sinks.append(Sink("url", to_url(config.checkpoint_url)))
    return sinks
