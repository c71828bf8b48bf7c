"""What a log was in the middle of when its disk failed it: so that tests prove what they reach.

- head: HEAD is written, and nobody was told yet
- roll: a new segment is being built, the folder not synced since
- seal: a former active segment has a rollback journal beside it
- drop: a drop was announced, and the file is still there
- wal: anything else: commits, and copying them
"""

from __future__ import annotations

from typing import Final

from tests.support.faults.disk import FOLDER, Disk, Name, Said, Step, Sync, Told, Write

MOMENTS: Final = ("head", "roll", "seal", "drop")


def moments(disk: Disk, cuts: list[int]) -> dict[str, int]:
    """How many of the cuts are in the middle of each; a cut before step n has the number n."""
    counts = dict.fromkeys(MOMENTS, 0)
    wanted = set(cuts)
    under_way: set[str] = set()
    head = disk.names.get("HEAD", 0)
    for number, step in enumerate(disk.steps):
        for moment in under_way if number in wanted else ():
            counts[moment] += 1
        under_way |= _begins(step, head)
        under_way -= _ends(step)
    return counts


def _begins(step: Step, head: int) -> set[str]:
    if isinstance(step, Write) and step.inode == head:
        return {"head"}
    if isinstance(step, Said):
        return {"drop"}
    if isinstance(step, Name) and step.inode:
        if step.name.endswith(".segment.new"):
            return {"roll"}
        if step.name.endswith("-journal"):
            return {"seal"}
    return set()


def _ends(step: Step) -> set[str]:
    if isinstance(step, Told):
        return {"head"}
    if isinstance(step, Sync) and step.inode == FOLDER:
        return {"roll"} if not step.failed else set()
    if isinstance(step, Name) and not step.inode:
        return {"seal"} if step.name.endswith("-journal") else _dropped(step)
    return set()


def _dropped(step: Name) -> set[str]:
    return {"drop"} if step.name.endswith(".segment") else set()


def moment_of(call: str) -> str:
    """What a call ("kind name") that was struck belongs to."""
    kind, name = call.split(" ", 1)
    if name.startswith("HEAD"):
        return "head"
    if ".segment.new" in name or kind == "rename":
        return "roll"
    if name.endswith("-journal"):
        return "seal"
    return "drop" if kind == "unlink" and name.endswith(".segment") else "wal"
