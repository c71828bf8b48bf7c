"""Settings: where they come from, what is refused, and how that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes.errors import ConfigError
from hermes.server.config import (
    SETTINGS,
    ServerConfig,
    unknown_variables,
)
from hermes.server.config_checks import is_loopback, split_address


def test_defaults_and_their_variables() -> None:
    """The table that existing deployments rely on."""
    promised = {
        "HERMES_LISTEN_ADDR": "127.0.0.1:4222",
        "HERMES_CHANNEL_CAPACITY": 8192,
        "HERMES_GRPC_OUTPUT_BUFFER": 1024,
        "HERMES_STORE_PATH": None,
        "HERMES_REDELIVERY_INTERVAL": 5,
        "HERMES_MAX_DELIVERY_ATTEMPTS": 5,
        "HERMES_RETENTION_SECS": 604800,
        "HERMES_ACK_TIMEOUT": 30,
        "HERMES_MAX_IN_FLIGHT": 32,
        "HERMES_GC_INTERVAL": 60,
        "HERMES_REDELIVERY_BATCH_SIZE": 100,
    }
    defaults = {setting.variable: setting.default for setting in SETTINGS}
    assert {name: defaults[name] for name in promised} == promised


def test_every_setting_is_read_from_its_variable() -> None:
    texts = {
        "listen_addr": "[::1]:0",
        "insecure": "yes",
        "metrics_addr": "127.0.0.1:0",
        "accept_loss": "yes",
        "store_path": "/srv/hermes",
        "segment_bytes_max": "100000",
        "backup_bytes_per_sec": "2000000",
        "checkpoint_url": "https://audit.example/checkpoints",
        "log_format": "JSON",
        "log_level": "debug",
        "max_store_bytes": "9000000",
        "store_full": "drop-oldest-settled",
    }
    environ = {s.variable: texts.get(s.field, "1000") for s in SETTINGS}
    config = ServerConfig.from_env(environ)
    assert config.store_path == Path("/srv/hermes")
    assert (config.listen_addr, config.insecure) == ("[::1]:0", True)
    assert (config.log_format, config.log_level) == ("json", "debug")
    unchanged = [s.field for s in SETTINGS if getattr(config, s.field) == s.default]
    assert unchanged == []


def test_all_bad_values_are_reported_at_once_with_their_source() -> None:
    environ = {
        "HERMES_CHANNEL_CAPACITY": "many",
        "HERMES_ACK_TIMEOUT": "nan",
        "HERMES_LISTEN_ADDR": "4222",
        "HERMES_INSECURE": "perhaps",
        "HERMES_AUDIT_RETENTION_SECS": "0",
        "HERMES_LOG_LEVEL": "loud",
    }
    with pytest.raises(ConfigError) as caught:
        ServerConfig.from_texts(environ, {"gc_interval_secs": "-1"})
    problems = str(caught.value).split("; ")
    assert [problem.split()[0] for problem in problems] == [
        "HERMES_INSECURE",
        "HERMES_CHANNEL_CAPACITY",
        "HERMES_ACK_TIMEOUT",
        "HERMES_AUDIT_RETENTION_SECS",
        "--gc-interval",
        "HERMES_LOG_LEVEL",
        "HERMES_LISTEN_ADDR",
    ]
    assert "HERMES_CHANNEL_CAPACITY is 'many': expected an integer from 1 to" in problems[1]
    assert all("expected" in problem for problem in problems)


@pytest.mark.parametrize("text", ["", "x", "1.5", "0", "-3", "99999999999"])
def test_a_bad_count_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HERMES_CHANNEL_CAPACITY"):
        ServerConfig.from_env({"HERMES_CHANNEL_CAPACITY": text})


def test_constructing_checks_as_well() -> None:
    with pytest.raises(ConfigError, match=r"max_message_bytes .*; .*log_format"):
        ServerConfig(max_message_bytes=0, log_format="xml")


def test_flags_win_over_the_environment() -> None:
    environ = {"HERMES_GC_INTERVAL": "7", "HERMES_SHUTDOWN_GRACE": "3"}
    config = ServerConfig.from_texts(environ, {"gc_interval_secs": "9"}, store_path=None)
    assert (config.gc_interval_secs, config.shutdown_grace_secs) == (9, 3)


@pytest.mark.parametrize("text", ["none", "", "None"])
def test_a_retention_can_be_for_ever(text: str) -> None:
    assert ServerConfig.from_env({"HERMES_AUDIT_RETENTION_SECS": text}).audit_retention_secs is None


@pytest.mark.parametrize("address", ["0.0.0.0:4222", "[::]:4222", "192.0.2.1:1", "broker.test:1"])
def test_beyond_this_machine_only_when_told_so(address: str) -> None:
    with pytest.raises(ConfigError, match="--insecure"):
        ServerConfig(listen_addr=address)
    with pytest.raises(ConfigError, match=r"metrics_addr .*--insecure"):
        ServerConfig(metrics_addr=address)
    assert ServerConfig(listen_addr=address, insecure=True).listen_addr == address


@pytest.mark.parametrize(
    "address", ["", "localhost", ":4222", "::1:4222", "host:", "host:65536", "host:-1", "host:٣"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        split_address(address)


def test_addresses() -> None:
    assert split_address("localhost:0") == ("localhost", 0)
    assert split_address("[::1]:4222") == ("::1", 4222)
    assert is_loopback("127.9.9.9") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("localhost.example")


def test_unknown_variables_name_what_was_meant() -> None:
    environ = {
        "HERMES_CHANEL_CAPACITY": "1",
        "HERMES_SERVER": "a client's",
        "HERMES_ACK_TIMEOUT": "1",
        "HERMES_XYZ": "1",
        "PATH": "",
    }
    assert unknown_variables(environ) == [
        ("HERMES_CHANEL_CAPACITY", "HERMES_CHANNEL_CAPACITY"),
        ("HERMES_XYZ", ""),
    ]


def test_the_digest_tells_settings_apart_and_only_those() -> None:
    digest = ServerConfig().digest()
    assert len(digest) == 32
    assert ServerConfig.from_env({"HERMES_ACK_TIMEOUT": "30"}).digest() == digest
    for other in (ServerConfig(gc_interval_secs=61), ServerConfig(store_path=Path("x"))):
        assert other.digest() != digest


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("checkpoint_command", "sh -c 'x", "No closing quotation"),
        ("checkpoint_command", "  ", "a program and its arguments"),
        ("checkpoint_url", "ftp://host/x", "not an http or https URL"),
        ("checkpoint_url", "https:///x", "not an http or https URL"),
        ("checkpoint_url", "https://host:99999/x", "not an http or https URL"),
        ("checkpoint_interval_secs", -1.0, "seconds, from 0"),
    ],
)
def test_bad_settings_of_checkpoints(field: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        ServerConfig(**{field: value})  # type: ignore[arg-type]
    assert "host/x" not in str(caught.value), "a URL may hold a secret"


def test_settings_of_checkpoints() -> None:
    config = ServerConfig.from_env(
        {
            "HERMES_CHECKPOINT_INTERVAL": "0",
            "HERMES_CHECKPOINT_KEY": "/run/secrets/key",
            "HERMES_CHECKPOINT_FILE": "/mnt/audit/notes",
            "HERMES_CHECKPOINT_COMMAND": "logger -t hermes",
            "HERMES_CHECKPOINT_URL": "none",
        }
    )
    assert config.checkpoint_interval_secs == 0
    assert config.checkpoint_key == Path("/run/secrets/key")
    assert config.checkpoint_file == Path("/mnt/audit/notes")
    assert config.checkpoint_command == "logger -t hermes"
    assert config.checkpoint_url is None


def test_limits_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="unsettled payloads would go before settled ones"):
        ServerConfig(retention_secs=100, max_unacked_retention_secs=99)
    with pytest.raises(ConfigError, match="at least twice segment_bytes_max, 2,000,000"):
        ServerConfig(segment_bytes_max=1_000_000, max_store_bytes=1_999_999)
    with pytest.raises(ConfigError, match="one of refuse, drop-oldest-settled"):
        ServerConfig.from_env({"HERMES_STORE_FULL": "ignore"})
    config = ServerConfig.from_env({"HERMES_MAX_STORE_BYTES": "none"})
    assert config.max_store_bytes is None
