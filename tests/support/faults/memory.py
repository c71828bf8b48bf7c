"""What a process holds in memory, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

MIB = 1024 * 1024


def rss_bytes(pid: int) -> int:
    """Resident now."""
    return _status_bytes(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """The most that ever was resident, or since `reset_peak`."""
    return _status_bytes(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """The peak counts from what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024  # in kB
    raise AssertionError(f"process {pid} has no {field}: it has ended")
