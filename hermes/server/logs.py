"""What the server says about itself: structured events on stderr.

Everything goes through the standard library's logging, so that a program which embeds
a server keeps its own set-up; only `configure` (called by `hermes serve`) installs a
handler. On a terminal lines are for people, elsewhere they are JSON objects.

Rules: the event is a short constant sentence, what varies is a field. No payloads, no
headers, no credentials. Times are UTC.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

import structlog
from structlog.typing import Processor

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose methods take an event and named fields."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return logger


def configure(
    log_format: str = "auto", log_level: str = "info", stream: TextIO | None = None
) -> None:
    """Send everything this process logs to `stream` (default: stderr).

    `log_format` is auto, human or json; `log_level` a level's name in lower case.
    Replaces what an earlier call installed.
    """
    stream = stream or sys.stderr
    handler = _Handler(stream)
    if log_format == "human" or (log_format == "auto" and stream.isatty()):
        render: list[Processor] = [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    else:
        render = [
            # Without the frames' locals: among them are payloads and headers.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=_as_text),
        ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for installed in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(installed)
    root.addHandler(handler)
    root.setLevel(log_level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to tell it from the handlers of an embedding program."""


def _as_text(value: Any) -> str:
    return str(value)
