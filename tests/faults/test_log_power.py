"""Invariants 2 and 5: power fails between any two calls; what was told is there afterwards.

A story is played on a recorded disk. Then the power is cut before and after every sync and
every outcome that was told, and each cut gives images (`Policy`): nothing unsynced survives,
all of it, any sectors in any order, the last write torn, the last one alone. Each image is
opened as a store.

`SEED=n` repeats a run. The long ones are under the mark `torture`.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from hermes.log import database, schema
from hermes.log.log import open_log
from tests.contract.records import Outcomes
from tests.support.faults.disk import Disk, Policy, Sync, Told, write_image
from tests.support.faults.log_story import Story, check_image, make_small
from tests.support.faults.moments import moments
from tests.support.faults.recording import Recorder, recording
from tests.support.faults.seeds import ROUNDS, seed_of_run, tell, tell_seed

THIS = "tests/faults/test_log_power.py"


def cuts_of(disk: Disk) -> list[int]:
    """Before and after each sync and each outcome that was told."""
    around = [n for n, step in enumerate(disk.steps) if isinstance(step, (Sync, Told))]
    return sorted({cut for n in around for cut in (n, n + 1) if cut >= disk.begins})


def cut_everywhere(
    disk: Disk, chains: dict[int, bytes], where: Path, rng: random.Random, images: int
) -> Counter[str]:
    """So many images, spread over all cuts and policies; 0: all of them."""
    places = [(cut, policy) for cut in cuts_of(disk) for policy in Policy]
    chosen = rng.sample(places, min(images, len(places))) if images else places
    counts: Counter[str] = Counter()
    for cut, policy in chosen:
        image = where / f"image-{counts.total()}"
        write_image(disk.image(cut, policy, rng), image)
        told, dropped = disk.told_before(cut), disk.dropped_before(cut)
        try:
            check_image(image, told, dropped, chains, go_on=rng.random() < 0.2)
        except BaseException as error:
            error.add_note(f"cut after {cut} of {len(disk.steps)} steps, {policy.name}")
            raise
        shutil.rmtree(image)
        counts[policy.name] += 1
    return counts


def record(
    folder: Path, rng: random.Random, *, steps: int, free: bool = False
) -> tuple[Recorder, Story]:
    with recording(folder) as recorder:
        story = Story(recorder, rng, free=free)
        story.play(steps)
        story.close()
    return recorder, story


def play(tmp_path: Path, seed: int, *, steps: int, images: int, free: bool = False) -> None:
    rng = random.Random(seed)
    recorder, story = record(tmp_path / "store", rng, steps=steps, free=free)
    counts = cut_everywhere(recorder.disk, story.chains, tmp_path, rng, images)
    syncs = sum(isinstance(step, Sync) for step in recorder.disk.steps)
    reached = moments(recorder.disk, cuts_of(recorder.disk))
    tell(
        f"{syncs} sync points, {counts.total()} images, {story.told} records: 0 lost;"
        f" cuts in the middle of {reached}"
    )
    assert min(reached.values()) > 0, reached


def test_power_loss_loses_nothing_that_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = seed_of_run()
    tell_seed(seed, THIS)
    make_small(monkeypatch)
    play(tmp_path, seed, steps=40, images=200)


def test_power_loss_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power fails, and fails again while the store is opened: still nothing is lost."""
    seed = seed_of_run()
    tell_seed(seed, THIS)
    make_small(monkeypatch)
    rng = random.Random(seed)
    recorder, story = record(tmp_path / "store", rng, steps=25)
    for number in range(4):
        cut, policy = rng.choice(cuts_of(recorder.disk)), rng.choice(list(Policy))
        told, dropped = recorder.disk.told_before(cut), recorder.disk.dropped_before(cut)
        first = tmp_path / f"first-{number}"
        write_image(recorder.disk.image(cut, policy, rng), first)
        with recording(first) as again:
            log = open_log(first, Outcomes(), low_space_bytes=0, vfs=again.vfs_name)
            again.note(Told(max(told, log.next_lsn - 1)))
            log.close()
        for second_cut in rng.sample(cuts_of(again.disk), 6):
            second = tmp_path / "second"
            write_image(again.disk.image(second_cut, rng.choice(list(Policy)), rng), second)
            check_image(
                second, max(told, again.disk.told_before(second_cut)), dropped, story.chains
            )
            shutil.rmtree(second)


def test_the_story_reaches_what_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WALs that start over, checkpoints, rolls, seals: or the images would prove little."""
    make_small(monkeypatch)
    recorder, _ = record(tmp_path / "store", random.Random(3), steps=60)
    restarts = recorder.heads_written("00000000000000000001.segment-wal")
    assert restarts > 3
    assert recorder.heads_written("00000000000000000001.segment") > 2
    assert len([name for name in recorder.disk.names if name.endswith(".segment")]) > 1
    reached = moments(recorder.disk, cuts_of(recorder.disk))
    assert min(reached.values()) > 3, reached


def test_a_log_that_does_not_sync_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness itself: the same images of a careless log lose records that were told."""
    make_small(monkeypatch)
    careless = tuple(
        schema.Pragma(p.name, "OFF", 0, "") if p.name == "synchronous" else p
        for p in schema.WRITE_PRAGMAS
    )
    defaults = {**(database.connect.__kwdefaults__ or {}), "pragmas": careless}
    monkeypatch.setattr(database.connect, "__kwdefaults__", defaults)
    recorder, story = record(tmp_path / "store", random.Random(1), steps=12)
    with pytest.raises(Exception, match=r"were committed and are lost|are held"):
        cut_everywhere(recorder.disk, story.chains, tmp_path, random.Random(1), images=60)


@pytest.mark.torture
@pytest.mark.parametrize("free", [False, True], ids=["stepped", "threads"])
def test_power_loss_at_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: bool) -> None:
    """Every cut and every policy; `threads` is with the keeper running beside the commits."""
    seed = seed_of_run()
    make_small(monkeypatch, free=free)
    for number in range(ROUNDS):
        tell_seed(seed + number, f"-m torture {THIS}")
        where = tmp_path / str(number)
        where.mkdir()
        play(where, seed + number, steps=120, images=0, free=free)
        shutil.rmtree(where)
