"""Any one call of an opening fails, reads among them: the store is refused, nothing is lost.

A store as a kill or a power loss left it is opened while the n-th call to its files fails,
once or for ever. Whatever the opening makes of it, all that was committed is still there:
for the next opening, and for the one after a power loss at the moment of the refusal.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from hermes.errors import StoreError
from hermes.log.log import open_log
from tests.contract.records import Outcomes
from tests.support.faults.disk import Disk, Name, Policy, write_image
from tests.support.faults.log_story import Story, check_image, make_small
from tests.support.faults.recording import CHANGES, FOR_EVER, Trouble, recording
from tests.support.faults.seeds import ROUNDS, seed_of_run, tell, tell_seed

THIS = "tests/faults/test_open_refused.py"
EVERY = CHANGES | {"read"}
NEVER = Trouble(FOR_EVER, kinds=EVERY)


class Left(msgspec.Struct):
    """A store as it was left, and what must be in it."""

    image: dict[str, tuple[int, bytes]]
    told: int
    dropped: int
    chains: dict[int, bytes]


def left_behind(folder: Path, rng: random.Random) -> Left:
    """By a power loss at some moment; often while a segment was being sealed."""
    with recording(folder) as recorder:
        story = Story(recorder, rng)
        story.run(12)
        story.roll()
        story.run(3)
        end = len(recorder.disk.steps)
        story.close()
    disk = recorder.disk
    cut = rng.choice([end, rng.randrange(disk.begins, end), _seal(disk)])
    image = disk.image(cut, rng.choice(list(Policy)), rng)
    return Left(image, disk.told_before(cut), disk.dropped_before(cut), story.chains)


def _seal(disk: Disk) -> int:
    """A step while the last journal was there."""
    journals = [
        n for n, s in enumerate(disk.steps) if isinstance(s, Name) and s.name.endswith("-journal")
    ]
    return journals[-1]


def try_opening(where: Path, left: Left, trouble: Trouble, rng: random.Random) -> tuple[int, str]:
    """Returns how many calls there were, and "refused", "opened" or "" (nothing was struck)."""
    folder, image = where / "store", where / "image"
    write_image(left.image, folder)
    with recording(folder) as recorder:
        recorder.counts(trouble)
        log = None
        with suppress(StoreError):
            log = open_log(folder, Outcomes(), low_space_bytes=0, vfs=recorder.vfs_name)
        calls, struck = recorder.calls, recorder.struck
        recorder.counts(None)
        refused_at = len(recorder.disk.steps)
        if log is not None:
            log.close()
    for policy in rng.sample(list(Policy), 2):
        write_image(recorder.disk.image(refused_at, policy, rng), image)
        check_image(image, left.told, left.dropped, left.chains)
        shutil.rmtree(image)
    check_image(folder, left.told, left.dropped, left.chains)
    shutil.rmtree(folder)
    if not struck:
        return calls, ""
    return calls, "refused" if log is None else "opened"


def refuse_all(tmp_path: Path, seed: int, tries: int) -> Counter[str]:
    """So many failures of one opening; 0: every call, each code, once and for ever."""
    rng = random.Random(seed)
    left = left_behind(tmp_path / "story", rng)
    calls, _ = try_opening(tmp_path, left, NEVER, rng)
    plans = [
        Trouble(call, code, times, EVERY)
        for call in range(calls)
        for code in (errno.EIO, errno.ENOSPC)
        for times in (1, FOR_EVER)
    ]
    counts: Counter[str] = Counter()
    for trouble in rng.sample(plans, min(tries, len(plans))) if tries else plans:
        try:
            counts[try_opening(tmp_path, left, trouble, rng)[1]] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}, {trouble}")
            raise
    tell(f"{calls} calls of an opening, {counts.total()} failures: {dict(counts)}, 0 lost")
    shutil.rmtree(tmp_path / "story")
    return counts


def test_any_call_of_an_opening_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = seed_of_run()
    tell_seed(seed, THIS)
    make_small(monkeypatch)
    counts = Counter[str]()
    for number in range(seed, seed + 3):
        counts += refuse_all(tmp_path, number, 20)
    assert counts["refused"] > counts.total() / 2


@pytest.mark.torture
def test_every_call_of_an_opening_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = seed_of_run()
    make_small(monkeypatch)
    for number in range(seed, seed + ROUNDS):
        tell_seed(number, f"-m torture {THIS}")
        refuse_all(tmp_path, number, 0)
