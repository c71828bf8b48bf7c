"""A power loss in the middle of sealing: a segment with a rollback journal beside it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hermes.errors import StoreError
from hermes.log.database import connect_to_read
from hermes.log.log import open_log
from hermes.log.schema import PAGE_BYTES
from hermes.log.segment import file_name, is_sealed_file
from tests.contract.records import Outcomes
from tests.support.faults.disk import SECTOR_BYTES, Disk, Name, Policy, write_image
from tests.support.faults.log_story import Story, check_image, make_small
from tests.support.faults.recording import recording
from tests.support.faults.seeds import seed_of_run, tell_seed

SEGMENT = file_name(1)
JOURNAL = SEGMENT + "-journal"


class CutSeal:
    """A store whose first segment was being sealed: its page is written, its journal there."""

    def __init__(self, folder: Path) -> None:
        with recording(folder.with_name("whole")) as recorder:
            story = Story(recorder, random.Random(5))
            story.run(4)
            story.roll()
            story.close()
        self.disk, self.told, self.chains = recorder.disk, story.told, story.chains
        self.folder = folder
        self.journal = folder / JOURNAL
        self.segment = folder / SEGMENT
        cut = unlink_of(recorder.disk, JOURNAL)
        write_image(recorder.disk.image(cut, Policy.KEPT, random.Random(5)), folder)

    def check(self) -> None:
        """It opens with everything, and sealing it is done over."""
        check_image(self.folder, self.told, 0, self.chains, go_on=True)
        assert not self.journal.exists()


def unlink_of(disk: Disk, name: str) -> int:
    return next(n for n, s in enumerate(disk.steps) if isinstance(s, Name) and s == Name(name, 0))


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CutSeal:
    make_small(monkeypatch)
    found = CutSeal(tmp_path / "store")
    assert found.journal.stat().st_size > PAGE_BYTES
    return found


def test_a_torn_page_is_put_back(cut: CutSeal) -> None:
    """Without a WAL beside it the segment was read as `immutable`, past its journal."""
    with cut.segment.open("r+b") as file:
        file.seek(SECTOR_BYTES)
        file.write(bytes(PAGE_BYTES - SECTOR_BYTES))
    cut.check()


def test_a_wal_that_came_back_does_not_hide_the_journal(cut: CutSeal) -> None:
    """The -wal was unlinked, unsynced: it may be there again. Opening refused such a store:
    "its -wal cannot be read without write permission"."""
    wal = SEGMENT + "-wal"
    steps = cut.disk.steps
    inode = next(s.inode for s in steps if isinstance(s, Name) and s.name == wal and s.inode)
    written = [n for n, s in enumerate(steps) if getattr(s, "inode", None) == inode]
    before = cut.disk.image(written[-2], Policy.KEPT, random.Random(5))
    assert before[wal][1]
    (cut.folder / wal).write_bytes(before[wal][1])
    cut.check()


def test_a_mode_that_outran_the_journal(cut: CutSeal) -> None:
    """A file system may keep the mode 0400 and not that the journal is gone."""
    cut.segment.chmod(0o400)
    log = open_log(cut.folder, Outcomes(), low_space_bytes=0)
    assert not is_sealed_file(cut.segment)
    log.close()
    assert is_sealed_file(cut.segment)
    cut.check()


def test_a_journal_of_nothing_is_no_obstacle(cut: CutSeal) -> None:
    """Its header was never synced, so the page was not written either."""
    cut.journal.write_bytes(bytes(cut.journal.stat().st_size))
    cut.check()


def test_who_may_not_write_is_told_what_to_do(cut: CutSeal) -> None:
    with pytest.raises(StoreError, match="its -journal must be rolled back") as caught:
        connect_to_read(cut.segment)
    assert "start the server" in str(caught.value.hint)
    cut.check()
    connect_to_read(cut.segment).close()


def test_a_refused_store_keeps_its_evidence(cut: CutSeal) -> None:
    """Of a store that is refused only the page that was being changed is put back."""
    last = max(cut.folder.glob("*.segment"))
    for path in cut.folder.glob(last.name + "*"):
        path.unlink()
    names = {path.name for path in cut.folder.iterdir()} - {JOURNAL}
    before = cut.segment.read_bytes()
    with pytest.raises(StoreError, match="were committed and are lost"):
        open_log(cut.folder, Outcomes(), low_space_bytes=0)
    after = cut.segment.read_bytes()
    assert before[PAGE_BYTES:] == after[PAGE_BYTES:]
    left = {p.name for p in cut.folder.iterdir()} - {"LOCK"}
    assert {name for name in left if not name.endswith(("-shm", "-wal"))} == names


@pytest.mark.torture
def test_power_loss_while_a_seal_is_undone(cut: CutSeal, tmp_path: Path) -> None:
    """At each step of the opening that finds the journal."""
    seed = seed_of_run()
    tell_seed(seed, f"-m torture {Path(__file__).name}")
    rng = random.Random(seed)
    with recording(cut.folder) as again:
        log = open_log(cut.folder, Outcomes(), low_space_bytes=0, vfs=again.vfs_name)
        log.close()
    for number in range(again.disk.begins, len(again.disk.steps) + 1):
        for policy in Policy:
            image = tmp_path / f"{number}-{policy.name}"
            write_image(again.disk.image(number, policy, rng), image)
            check_image(image, cut.told, 0, cut.chains)
