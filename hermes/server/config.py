"""Every setting of a server: its name, environment variable, bounds and default.

Theory: `ServerConfig` is the one table. The environment, the flags of `hermes serve`
and the documentation are derived from it, so a setting is added in one place. A config
that exists is valid: construction checks every field and their relations, and reports
all that is wrong at once.

Times are in seconds here, because people write them; everything behind takes `_ns`.
Nothing is read from files, and nothing is started here.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, UnsetType

from hermes import limits
from hermes.broker.retention import StoreFull
from hermes.errors import ConfigError
from hermes.server.config_checks import (
    address_problem,
    command_problem,
    store_bytes_problem,
    unacked_problem,
    url_problem,
)
from hermes.server.settings import (
    DAY_SECS,
    SECS_MAX,
    choice,
    count,
    count_or_none,
    meta,
    seconds,
    seconds_or_none,
    settings_of,
)

_PREFIX: Final = "HERMES_"
# Read by the client and the command line, not by a server.
_VARIABLES_OF_CLIENTS: Final = frozenset({"HERMES_SERVER"})

_Retention = Annotated[float, Meta(ge=1, le=SECS_MAX)]
_StoreBytes = Annotated[int, Meta(ge=limits.MIB, le=limits.STORE_BYTES_MAX)]


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one server. Raises ConfigError when a value is not allowed."""

    listen_addr: Annotated[
        str,
        meta("HERMES_LISTEN_ADDR", "HOST:PORT", "Address to listen on; port 0 takes a free one."),
    ] = "127.0.0.1:4222"
    insecure: Annotated[
        bool, meta("HERMES_INSECURE", "true or false", "Allow listening beyond this machine.")
    ] = False
    metrics_addr: Annotated[
        str | None,
        meta(
            "HERMES_METRICS_ADDR",
            "HOST:PORT, or none",
            "Address of the metrics for Prometheus (HTTP); none: there are none.",
        ),
    ] = None
    store_path: Annotated[
        Path | None,
        meta("HERMES_STORE_PATH", "a folder, or none", "Folder of the store; none: no durability."),
    ] = None

    accept_loss: Annotated[
        bool,
        meta(
            "HERMES_ACCEPT_LOSS",
            "true or false",
            "Start though committed records are gone for good; for one start.",
        ),
    ] = False

    subscriber_channel_capacity: Annotated[
        int, count("HERMES_CHANNEL_CAPACITY", "Messages buffered for a live subscription.")
    ] = 8192
    grpc_output_buffer: Annotated[
        int, count("HERMES_GRPC_OUTPUT_BUFFER", "Messages of a v1 stream made ready ahead.")
    ] = 1024
    max_message_bytes: Annotated[
        int,
        count(
            "HERMES_MAX_MESSAGE_BYTES",
            "Largest payload of a message.",
            high=limits.MESSAGE_BYTES_MAX,
        ),
    ] = limits.MESSAGE_BYTES_DEFAULT

    default_ack_timeout_secs: Annotated[
        float, seconds("HERMES_ACK_TIMEOUT", "Ack timeout of a consumer that asks for none.")
    ] = 30
    default_max_in_flight: Annotated[
        int,
        count(
            "HERMES_MAX_IN_FLIGHT",
            "Credit of a v1 subscriber that asks for none.",
            high=limits.CREDIT_MESSAGES_MAX,
        ),
    ] = 32
    max_delivery_attempts: Annotated[
        int,
        count(
            "HERMES_MAX_DELIVERY_ATTEMPTS",
            "Failures after which a message is dead; 0: never.",
            low=0,
            high=1_000_000,
        ),
    ] = 5
    redelivery_interval_secs: Annotated[
        float, seconds("HERMES_REDELIVERY_INTERVAL", "Longest time between redelivery rounds.")
    ] = 5
    redelivery_batch_size: Annotated[
        int, count("HERMES_REDELIVERY_BATCH_SIZE", "Leases expired per consumer and round.")
    ] = 100
    dedup_window_secs: Annotated[
        float, seconds("HERMES_DEDUP_WINDOW", "How long message ids are remembered.", 0)
    ] = 120
    dedup_ids_max: Annotated[
        int, count("HERMES_DEDUP_IDS_MAX", "Message ids remembered at most.", low=0)
    ] = limits.DEDUP_IDS_MAX

    retention_secs: Annotated[
        float,
        seconds("HERMES_RETENTION_SECS", "Age from which settled payloads are compacted away.", 1),
    ] = 7 * DAY_SECS
    max_unacked_retention_secs: Annotated[
        _Retention | None,
        seconds_or_none(
            "HERMES_MAX_UNACKED_RETENTION_SECS",
            "Age from which unsettled payloads go too, lost to their consumers; none: never.",
            "until settled",
        ),
    ] = None
    audit_retention_secs: Annotated[
        _Retention | None,
        seconds_or_none(
            "HERMES_AUDIT_RETENTION_SECS", "How long the trail is kept; none: for ever.", "for ever"
        ),
    ] = None
    dead_letter_retention_secs: Annotated[
        _Retention | None,
        seconds_or_none(
            "HERMES_DEAD_LETTER_RETENTION_SECS",
            "How long dead letters are kept; none: until dealt with.",
            "until replayed or discarded",
        ),
    ] = None
    max_store_bytes: Annotated[
        _StoreBytes | None,
        count_or_none(
            "HERMES_MAX_STORE_BYTES",
            "Size of the store at which `store_full` says what happens; none: no limit.",
            "no limit",
            low=limits.MIB,
        ),
    ] = None
    store_full: Annotated[
        str,
        choice(
            "HERMES_STORE_FULL",
            "Then: refuse publishes, or first free what is settled, oldest first.",
            *(mode.value for mode in StoreFull),
        ),
    ] = StoreFull.REFUSE.value
    consumer_inactivity_secs: Annotated[
        _Retention | None,
        seconds_or_none(
            "HERMES_CONSUMER_INACTIVITY",
            "Time without a member after which a consumer without a limit of its own ends.",
            "never",
        ),
    ] = None
    gc_interval_secs: Annotated[
        float, seconds("HERMES_GC_INTERVAL", "Time between looks for what can be deleted.")
    ] = 60
    segment_bytes_max: Annotated[
        int,
        count(
            "HERMES_SEGMENT_BYTES",
            "Size at which a new segment begins.",
            low=64 * limits.KIB,
            high=64 * 1024 * limits.MIB,
        ),
    ] = 256 * limits.MIB
    segment_age_secs: Annotated[
        float, seconds("HERMES_SEGMENT_AGE", "Age at which a new segment begins.", 1)
    ] = DAY_SECS
    snapshot_interval_records: Annotated[
        int, count("HERMES_SNAPSHOT_INTERVAL", "Records between snapshots.", low=100)
    ] = 50_000

    checkpoint_interval_secs: Annotated[
        float,
        seconds(
            "HERMES_CHECKPOINT_INTERVAL", "Time between signed checkpoints with news; 0: none.", 0
        ),
    ] = 60
    checkpoint_key: Annotated[
        Path | None,
        meta(
            "HERMES_CHECKPOINT_KEY",
            "a file, or none",
            "Ed25519 key (PEM) that signs them; none: one in the store.",
        ),
    ] = None
    checkpoint_file: Annotated[
        Path | None,
        meta("HERMES_CHECKPOINT_FILE", "a file, or none", "File they are appended to."),
    ] = None
    checkpoint_command: Annotated[
        str | None,
        meta(
            "HERMES_CHECKPOINT_COMMAND",
            "a program and its arguments, or none",
            "Program that gets each on its standard input.",
        ),
    ] = None
    checkpoint_url: Annotated[
        str | None,
        meta(
            "HERMES_CHECKPOINT_URL",
            "an http or https URL, or none",
            "Where each is sent by HTTP POST.",
        ),
    ] = None

    backup_dir: Annotated[
        Path | None,
        meta("HERMES_BACKUP_DIR", "a folder, or none", "Folder that `hermes backup` may fill."),
    ] = None

    backup_bytes_per_sec: Annotated[
        int,
        count(
            "HERMES_BACKUP_RATE",
            "Bytes per second that a backup on request copies at most.",
            low=limits.MIB,
            high=64 * 1024 * limits.MIB,
        ),
    ] = limits.BACKUP_BYTES_PER_SEC

    scrub_bytes_per_sec: Annotated[
        int,
        count(
            "HERMES_SCRUB_RATE",
            "Bytes per second at which old segments are read again and checked; 0: never.",
            low=0,
            high=64 * 1024 * limits.MIB,
        ),
    ] = limits.SCRUB_BYTES_PER_SEC
    scrub_interval_secs: Annotated[
        float, seconds("HERMES_SCRUB_INTERVAL", "Rest between two such passes over the store.")
    ] = 7 * DAY_SECS

    shutdown_grace_secs: Annotated[
        float, seconds("HERMES_SHUTDOWN_GRACE", "How long a stop waits for its clients.", 0)
    ] = 10
    log_format: Annotated[
        str, choice("HERMES_LOG_FORMAT", "Form of the log on stderr.", "auto", "human", "json")
    ] = "auto"
    log_level: Annotated[
        str,
        choice("HERMES_LOG_LEVEL", "Least level logged.", "debug", "info", "warning", "error"),
    ] = "info"

    def __post_init__(self) -> None:
        for field in ("store_path", "checkpoint_key", "checkpoint_file", "backup_dir"):
            path: object = getattr(self, field)
            if isinstance(path, str):  # kind to callers without a type checker
                msgspec.structs.force_setattr(self, field, Path(path))
        problems = {}
        for setting in SETTINGS:
            value = getattr(self, setting.field)
            try:
                msgspec.convert(value, setting.annotation)
            except msgspec.ValidationError:
                problems[setting.field] = setting.problem(value)
        beyond_types = {
            "listen_addr": address_problem(self.listen_addr, insecure=self.insecure),
            "metrics_addr": address_problem(self.metrics_addr, insecure=self.insecure),
            "checkpoint_command": command_problem(self.checkpoint_command),
            "checkpoint_url": url_problem(self.checkpoint_url),
            "max_unacked_retention_secs": unacked_problem(
                self.max_unacked_retention_secs, self.retention_secs
            ),
            "max_store_bytes": store_bytes_problem(self.max_store_bytes, self.segment_bytes_max),
        }
        for field, problem in beyond_types.items():
            if problem and field not in problems:
                problems[field] = problem
        if problems:
            raise _config_error(
                [f"{field} {problem}" for field, problem in problems.items()], problems
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ServerConfig:
        """The configuration that the environment asks for (default: os.environ).

        Raises ConfigError naming every variable that is wrong, its value and what was
        expected.
        """
        return cls.from_texts(os.environ if environ is None else environ)

    @classmethod
    def from_texts(
        cls, environ: Mapping[str, str], flags: Mapping[str, str] | None = None, **fields: Any
    ) -> ServerConfig:
        """From the environment, overridden by `flags` (field -> text), then by `fields`.

        Raises ConfigError naming every bad value with the variable or flag it came from.
        """
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        problems: dict[str, str] = {}
        for setting in SETTINGS:
            if setting.field in fields:
                values[setting.field] = fields[setting.field]
                continue
            if flags is not None and setting.field in flags:
                source, text = setting.flag, flags[setting.field]
            elif setting.variable in environ:
                source, text = setting.variable, environ[setting.variable]
            else:
                continue
            sources[setting.field] = source
            value = setting.parse(text)
            if isinstance(value, UnsetType):
                problems[setting.field] = setting.problem(text)
            else:
                values[setting.field] = value
        try:
            config = cls(**values)
        except ConfigError as error:
            problems |= error.fields["problems"]
        else:
            if not problems:
                return config
        lines = [f"{sources.get(field, field)} {text}" for field, text in problems.items()]
        raise _config_error(lines, problems)

    @property
    def frame_bytes_max(self) -> int:
        """The largest gRPC frame that is taken or sent."""
        return limits.frame_bytes_max(self.max_message_bytes)

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) over every field's name and value: did the settings change?"""
        lines = [f"{s.field}={s.show(getattr(self, s.field))}\n" for s in SETTINGS]
        return hashlib.sha256("".join(sorted(lines)).encode()).digest()


SETTINGS: Final = settings_of(ServerConfig)


def _config_error(lines: list[str], problems: dict[str, str]) -> ConfigError:
    """One error for all of them; `problems` is field -> what is wrong."""
    return ConfigError("; ".join(lines), problems=problems, lines=lines)


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """HERMES_* variables that mean nothing, each with the closest that does ('' if none)."""
    known = {setting.variable for setting in SETTINGS}
    unknown = []
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known | _VARIABLES_OF_CLIENTS:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            unknown.append((name, close[0] if close else ""))
    return unknown
