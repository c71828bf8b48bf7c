"""Invariants 2, 4 and 5: any one call to the disk fails, once or for ever.

A story is played while its n-th write, sync, truncation, open, rename or unlink fails with
EIO or ENOSPC; a write has then written half. Whatever the log does: nothing is told as
committed after it has failed, and everything that was told is there in the end - when the
store is opened again on the same machine, whose caches show what the disk may not hold,
and when the power fails at any moment of that.

`SEED=n` repeats a run. The long ones are under the mark `torture`; `FAULT_PLANS=n` tries so
many failures of each seed, drawn from it, instead of all.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import apsw
import msgspec
import pytest

from hermes.errors import StoreError
from hermes.log.log import open_log
from hermes.log.segment import file_name
from tests.contract.records import Outcomes, dropped, publish
from tests.support.faults.disk import Name, Policy, Said, Sync, Told, write_image
from tests.support.faults.log_story import LogFailedError, Story, check_image, make_small
from tests.support.faults.moments import MOMENTS, moment_of
from tests.support.faults.recording import FOR_EVER, Recorder, Trouble, recording
from tests.support.faults.seeds import ROUNDS, seed_of_run, tell, tell_seed

THIS = "tests/faults/test_log_refused.py"
CODES = (errno.EIO, errno.ENOSPC)
TIMES = (1, 2, FOR_EVER)
# Of the failures of each seed, how many a long run tries; without it all, which takes long.
PLANS = int(os.environ.get("FAULT_PLANS", "0"))
NEVER = Trouble(call=FOR_EVER)


class Sufferer(msgspec.Struct):
    """What came of one story: which calls failed, and whether it was the log's end."""

    calls: int
    struck: list[str]
    failed: bool
    images: int


def suffer(folder: Path, seed: int, trouble: Trouble, *, steps: int, images: int) -> Sufferer:
    """Play a story in trouble; check the store, and images of it, afterwards."""
    rng = random.Random(seed)
    failed = False
    story: Story | None = None
    with recording(folder) as recorder:
        recorder.counts(trouble)
        try:
            story = Story(recorder, rng)
            story.play(steps)
        except (LogFailedError, StoreError):
            failed = True
        if story is not None:
            story.close()
        struck, calls = recorder.struck, recorder.calls
        recorder.counts(None)
        if story is not None:
            _nothing_told_after_a_failed_sync(recorder, story)
        told, chains = (story.told, story.chains) if story is not None else (0, {})
        reopened_at = len(recorder.disk.steps)
        _go_on(recorder, told)
    # Each one left open takes descriptors, and the locks of its file, until the process ends.
    assert not [db.filename for db in apsw.connections() if db.filename.startswith(str(folder))]
    check_image(folder, told, recorder.disk.dropped_before(reopened_at), chains)
    cuts = range(reopened_at, len(recorder.disk.steps) + 1)
    places = [(cut, policy) for cut in cuts for policy in Policy]
    for cut, policy in rng.sample(places, min(images, len(places))):
        _check_cut(recorder, cut, policy, chains, rng)
    recorder.forget()
    return Sufferer(calls, struck, failed, min(images, len(places)))


def _nothing_told_after_a_failed_sync(recorder: Recorder, story: Story) -> None:
    """Until the log is opened again: nobody knows what the disk holds.

    But for a segment with a rollback journal, which is being sealed: its records were synced
    before, and its one page is written again from the journal. There SQLite says "full", and
    the keeper goes on, when the rollback after a failed sync finds the disk full.
    """
    failed_at = -1
    names: dict[int, str] = {}
    for number, step in enumerate(recorder.disk.steps):
        if number in story.opened_at:
            failed_at = -1
        if isinstance(step, Name):
            names = {inode: name for inode, name in names.items() if name != step.name}
            names |= {step.inode: step.name} if step.inode else {}
        if isinstance(step, Sync) and step.failed:
            sealing = names.get(step.inode, "") + "-journal" in names.values()
            failed_at = failed_at if sealing else number
        assert failed_at < 0 or not isinstance(step, Told), f"told after the failure {failed_at}"


def _go_on(recorder: Recorder, told: int) -> None:
    """Open again at once, as after a fail stop, and commit something."""
    outcomes = Outcomes()
    log = open_log(recorder.folder, outcomes, low_space_bytes=0, vfs=recorder.vfs_name)
    assert log.next_lsn > told
    recorder.note(Told(log.next_lsn - 1))
    lsn = log.append([publish(log.next_offset)], log.next_lsn)
    outcomes.wait_for(lsn)
    recorder.note(Told(lsn))
    log.close()


def _check_cut(
    recorder: Recorder, cut: int, policy: Policy, chains: dict[int, bytes], rng: random.Random
) -> None:
    disk, image = recorder.disk, recorder.folder.with_name("image")
    write_image(disk.image(cut, policy, rng), image)
    try:
        check_image(image, disk.told_before(cut), disk.dropped_before(cut), chains)
    except BaseException as error:
        error.add_note(f"then power failed after {cut} of {len(disk.steps)} steps, {policy.name}")
        raise
    shutil.rmtree(image)


def calls_of(folder: Path, seed: int, steps: int) -> int:
    """How many calls the story makes when nothing fails."""
    return suffer(folder, seed, NEVER, steps=steps, images=0).calls


def suffer_all(
    tmp_path: Path, seed: int, plans: list[Trouble], *, steps: int, images: int
) -> tuple[int, int, dict[str, int]]:
    """Returns (stories that failed, images, how many first failures in the middle of what)."""
    failed = made = 0
    struck: Counter[str] = Counter()
    for number, trouble in enumerate(plans):
        folder = tmp_path / str(number) / "store"
        folder.parent.mkdir()
        try:
            done = suffer(folder, seed, trouble, steps=steps, images=images)
        except BaseException as error:
            error.add_note(f"seed {seed}, {trouble}")
            raise
        # How many groups share a transaction is the threads' choice: a call near the end of
        # the story that was counted may not come.
        assert done.struck or done.calls <= trouble.call, trouble
        failed += done.failed
        made += done.images
        if done.struck:
            struck[moment_of(done.struck[0])] += 1
        shutil.rmtree(folder.parent)
    return failed, made, dict(struck)


def test_any_call_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = seed_of_run()
    tell_seed(seed, THIS)
    make_small(monkeypatch)
    calls = calls_of(tmp_path / "sound", seed, steps=20)
    rng = random.Random(seed)
    plans = [
        Trouble(call, rng.choice(CODES), rng.choice(TIMES))
        for call in rng.sample(range(calls), min(25, calls))
    ]
    failed, images, _ = suffer_all(tmp_path, seed, plans, steps=20, images=4)
    tell(f"{len(plans)} of {calls} calls failed, {failed} ended the log, {images} images: 0 lost")


def test_a_sync_that_finds_the_disk_full_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a dropped segment goes, HEAD is synced: that failed with ENOSPC, was taken for a
    want of space, and records were told as committed behind it."""
    make_small(monkeypatch)
    with recording(tmp_path / "store") as recorder:
        story = Story(recorder, random.Random(1))
        story.run(3)
        story.roll()
        oldest = story.log.segments()[0]
        recorder.note(Said(oldest.last_lsn))
        story._append(dropped(oldest.first_lsn, oldest.last_lsn))
        story._wait(story.log.next_lsn - 1)
        story.log.drop(oldest.first_lsn)
        recorder.counts(Trouble(0, errno.ENOSPC, kinds=frozenset({"sync"})))
        with pytest.raises(LogFailedError):
            story._round()
        assert recorder.struck == ["sync HEAD"]
        story.close()
        _nothing_told_after_a_failed_sync(recorder, story)


def test_a_segment_that_cannot_be_unlinked_goes_before_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was forgotten, and stayed while the next ones went: the store was refused for the gap."""
    make_small(monkeypatch)
    with recording(tmp_path / "store") as recorder:
        story = Story(recorder, random.Random(1))
        for _ in range(3):
            story._one()
            story.roll()
        first, second, third = (info.first_lsn for info in story.log.segments()[:3])
        recorder.counts(Trouble(0, errno.ENOSPC, kinds=frozenset({"unlink"})))
        story.drop()
        assert recorder.struck == [f"unlink {file_name(first)}"]
        assert (recorder.folder / file_name(first)).exists()
        story.drop()
        assert not (recorder.folder / file_name(first)).exists()
        assert not (recorder.folder / file_name(second)).exists()
        story.close()
    check_image(recorder.folder, story.told, third - 1, story.chains)


def sync_fails_then_power(folder: Path, seed: int, images: int) -> int:
    """A sync of the WAL fails; power fails while the store is opened again. Returns images."""
    rng = random.Random(seed)
    with recording(folder) as recorder:
        story = Story(recorder, rng)
        story.run(rng.randrange(4, 12))
        recorder.counts(Trouble(0, kinds=frozenset({"sync"})))
        with pytest.raises(LogFailedError):
            story.run(6)
        story.close()
        struck = recorder.struck
        recorder.counts(None)
        reopened_at = len(recorder.disk.steps)
        _go_on(recorder, story.told)
    if not struck[0].endswith("-wal"):
        return 0
    cuts = range(reopened_at, len(recorder.disk.steps) + 1)
    places = [(cut, policy) for cut in cuts for policy in Policy]
    for cut, policy in rng.sample(places, min(images, len(places))):
        _check_cut(recorder, cut, policy, story.chains, rng)
    recorder.forget()
    return min(images, len(places))


def test_power_loss_while_opening_after_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system shows the WAL whole, and no later sync writes it.

    Opening copied it into the segment as it stood; power lost in the middle of that left new
    pages of the segment without the WAL that completes them, and the store was refused,
    records that had been told among it. So opening writes the WAL anew first.
    """
    seed = seed_of_run()
    tell_seed(seed, THIS)
    make_small(monkeypatch)
    images = 0
    for number in (15, seed, seed + 1):  # 15 showed it at nearly every cut
        folder = tmp_path / str(number) / "store"
        folder.parent.mkdir()
        images += sync_fails_then_power(folder, number, images=40)
    assert images >= 40
    tell(f"{images} images after a failed sync: 0 lost")


@pytest.mark.torture
def test_power_loss_after_a_failed_sync_at_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = seed_of_run()
    make_small(monkeypatch)
    images = 0
    for number in range(seed, seed + 10 * ROUNDS):
        tell_seed(number, f"-m torture {THIS}")
        folder = tmp_path / str(number) / "store"
        folder.parent.mkdir()
        images += sync_fails_then_power(folder, number, images=1000)
        shutil.rmtree(folder.parent)
    tell(f"{images} images after a failed sync: 0 lost")


@pytest.mark.torture
def test_every_call_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = seed_of_run()
    make_small(monkeypatch)
    for number in range(seed, seed + ROUNDS):
        tell_seed(number, f"-m torture {THIS}")
        calls = calls_of(tmp_path / f"sound-{number}", number, steps=40)
        plans = [
            Trouble(call, code, times) for call in range(calls) for code in CODES for times in TIMES
        ]
        if PLANS:
            plans = random.Random(number).sample(plans, min(PLANS, len(plans)))
        failed, images, struck = suffer_all(tmp_path, number, plans, steps=40, images=20)
        tell(
            f"{calls} calls, {len(plans)} failures, {failed} ended the log, {images} images:"
            f" 0 lost; struck in {struck}"
        )
        assert PLANS or min(struck.get(name, 0) for name in MOMENTS) > 0, struck
