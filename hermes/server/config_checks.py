"""What a setting must be beyond its type and bounds: addresses, URLs, command lines.

Each `*_problem` answers what is wrong with a value, as the end of a sentence that begins
with the setting's name; nothing ("") when nothing is.
"""

from __future__ import annotations

import ipaddress
import shlex
from urllib.parse import urlsplit


def address_problem(address: str | None, *, insecure: bool) -> str:
    """Of an address to listen on; beyond loopback it must be asked for."""
    if address is None:
        return ""
    try:
        host, _ = split_address(address)
    except ValueError as error:
        return f"is {address!r}: {error}"
    if insecure or is_loopback(host):
        return ""
    return (
        f"is {address!r}: whoever reaches it could read and write everything, as "
        "there is no authentication yet; expected a loopback address, or --insecure "
        "(HERMES_INSECURE=1)"
    )


def command_problem(command: str | None) -> str:
    """Of a program and its arguments, quoted as in a shell."""
    if command is None:
        return ""
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"is {command!r}: {error}"
    return "" if words else f"is {command!r}: expected a program and its arguments, or none"


def url_problem(url: str | None) -> str:
    """Of a URL that something is sent to. The value is not repeated: it may hold a secret."""
    if url is None:
        return ""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    return "" if sound else "is not an http or https URL such as https://audit.example/checkpoints"


def unacked_problem(unacked_secs: float | None, retention_secs: float) -> str:
    """Of the age from which unsettled payloads go: not before settled ones do."""
    if unacked_secs is None or unacked_secs >= retention_secs:
        return ""
    return (
        f"is {unacked_secs:g}: unsettled payloads would go before settled ones; expected at "
        f"least retention_secs, {retention_secs:g}"
    )


def store_bytes_problem(bytes_max: int | None, segment_bytes_max: int) -> str:
    """Of the size of the store: only sealed segments can give room back."""
    if bytes_max is None or bytes_max >= 2 * segment_bytes_max:
        return ""
    return (
        f"is {bytes_max}: room is given back segment by segment; expected at least twice "
        f"segment_bytes_max, {2 * segment_bytes_max:,}"
    )


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port. Raises ValueError that says what was expected."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    ascii_digits = port.isascii() and port.isdigit()
    bare_v6 = ":" in host and not address.startswith("[")
    if not colon or not host or bare_v6 or not ascii_digits or int(port) > 65_535:
        raise ValueError("expected HOST:PORT such as 127.0.0.1:4222 or [::1]:4222")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
