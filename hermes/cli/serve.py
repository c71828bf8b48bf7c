"""`hermes serve`: run the broker.

Every setting of the server is a flag here, made from its table, with the environment
variable as the fallback. What cannot start says so in one line, touches nothing, and
exits with 2 (a setting is wrong) or 1 (the machine says no).
"""

from __future__ import annotations

import asyncio
import inspect
import os
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hermes import __version__
from hermes.cli.groups import single
from hermes.cli.options import UsageError
from hermes.errors import ConfigError
from hermes.server.config import SETTINGS, ServerConfig, unknown_variables
from hermes.server.settings import Setting

DEFAULT_STORE: Final = Path("hermes-data")
DISTRIBUTION: Final = "hermes-broker"


def serve(*, ephemeral: bool, **flags: str | bool | None) -> None:
    """Run the broker, with its store in ./hermes-data, until SIGTERM or Ctrl-C.

    Each flag overrides its environment variable.
    """
    _refuse_namesake()
    config = _config(ephemeral, flags)
    # grpc's own words about a taken port would come before our line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Late: grpc reads its environment when it is imported.
    from hermes.server.app import run_with_config
    from hermes.server.logs import configure, get_logger

    configure(config.log_format, config.log_level)
    log = get_logger("hermes.server")
    log.info("hermes", version=__version__, pid=os.getpid(), **_retention(config))
    for name, meant in unknown_variables(os.environ):
        hint = f"did you mean {meant}?" if meant else "no setting has this name"
        log.warning("unknown environment variable", variable=name, hint=hint)
    asyncio.run(run_with_config(config.listen_addr, config))


def _config(ephemeral: bool, flags: dict[str, str | bool | None]) -> ServerConfig:
    texts = {name: value for name, value in flags.items() if isinstance(value, str)}
    fields: dict[str, Any] = {name: value for name, value in flags.items() if value is True}
    if ephemeral:
        if "store_path" in texts:
            raise UsageError("--ephemeral and --store contradict each other")
        fields["store_path"] = None
    elif "store_path" not in texts and "HERMES_STORE_PATH" not in os.environ:
        fields["store_path"] = DEFAULT_STORE
    try:
        return ServerConfig.from_texts(os.environ, texts, **fields)
    except ConfigError as error:
        raise UsageError(str(error), lines=error.fields.get("lines", ())) from error


def _refuse_namesake() -> None:
    """Another distribution of the top-level package `hermes` mixes its files with ours."""
    owners = {found.name for found in distributions() if _installs_hermes(found)} - {DISTRIBUTION}
    if owners:
        raise UsageError(
            f"the distribution {', '.join(sorted(owners))} installs a package named hermes too, "
            f"and its files mix with ours; uninstall it, then reinstall {DISTRIBUTION}"
        )


def _installs_hermes(distribution: Distribution) -> bool:
    # `packages_distributions` parses what each says of itself: a tenth of the start.
    packages = (distribution.read_text("top_level.txt") or "").split()
    files = (distribution.read_text("RECORD") or "").splitlines()
    return "hermes" in packages or any(file.startswith("hermes/") for file in files)


def _retention(config: ServerConfig) -> dict[str, str]:
    """What is deleted when, for the first line of the log."""
    if config.store_path is None:
        return {"deletes": "nothing is kept: fire-and-forget only"}
    audit = config.audit_retention_secs
    what = [f"payloads older than {config.retention_secs:g} s that no consumer needs"]
    if config.max_unacked_retention_secs is not None:
        what.append(f"payloads older than {config.max_unacked_retention_secs:g} s, needed or not")
    if audit is None:
        what.append("no segments (set --audit-retention to drop old ones)")
    else:
        what.append(f"segments older than {audit:g} s that no consumer needs")
    return {"deletes": "; ".join(what)}


def _option(setting: Setting) -> inspect.Parameter:
    """The flag of one setting."""
    shown = "" if setting.is_switch else f" [default: {_default(setting)}]"
    info = typer.Option(
        setting.flag,
        metavar=None if setting.is_switch else _metavar(setting.field),
        help=f"{setting.text} ({setting.variable}){shown}",
        show_default=False,
    )
    kind: Any = bool if setting.is_switch else str | None
    return inspect.Parameter(
        setting.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if setting.is_switch else None,
        annotation=Annotated[kind, info],
    )


def _metavar(field: str) -> str:
    special = {
        "listen_addr": "HOST:PORT",
        "metrics_addr": "HOST:PORT",
        "store_path": "PATH",
        "backup_dir": "PATH",
        "checkpoint_key": "PATH",
        "checkpoint_file": "PATH",
        "checkpoint_command": "COMMAND",
        "checkpoint_url": "URL",
        "log_format": "NAME",
        "store_full": "NAME",
        "log_level": "NAME",
    }
    if field.endswith("_secs"):
        return "SECS"
    return "BYTES" if "bytes" in field else special.get(field, "N")


def _default(setting: Setting) -> str:
    if setting.field == "store_path":
        return f"./{DEFAULT_STORE}"
    return setting.show(setting.default)


def _with_flags() -> Any:
    """`serve` with a signature that typer can read."""
    ephemeral = inspect.Parameter(
        "ephemeral",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--ephemeral", help="No store: fire-and-forget only.")
        ],
    )
    parameters = [ephemeral, *map(_option, SETTINGS)]

    def command(**values: Any) -> None:
        serve(**values)

    command.__doc__ = serve.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


app = single(_with_flags())
