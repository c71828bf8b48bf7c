"""Rolling back what a cut-off seal left: a segment with a rollback journal beside it.

Theory: sealing takes a segment out of WAL mode, a transaction on its first page that is the
only one here with a rollback journal. If it is cut off, the page may be torn and the journal
holds it as it was: only with both is the segment whole. A connection that may not write
cannot put the page back, and one that looks past the journal (`immutable`) reads a page that
nobody vouches for. So this comes before a store is looked at.

It is the one thing that is touched in a store that may yet be refused: the first page of a
segment that was being sealed gets back what SQLite put aside, byte for byte; a mode 0400
that was given already is taken back, for the seal is undone. Records, WALs and HEAD stay
as they are, and a segment without a journal is not opened. Done twice it is the same.

The journal is written anew first, as a WAL is (`wal.py`), and the folder synced last: a
journal that came back later would undo what was written since.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from hermes.log.database import connect
from hermes.log.head import sync_folder
from hermes.log.schema import SEAL_PRAGMAS
from hermes.log.wal import write_anew


def roll_back_journals(paths: Iterable[Path], *, vfs: str = "") -> None:
    """Complete these segments by the journals beside them. Raises apsw.Error, OSError."""
    for path in paths:
        journal = path.with_name(path.name + "-journal")
        if not journal.exists() or not journal.stat().st_size:
            continue
        write_anew(journal)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        db = connect(path, pragmas=SEAL_PRAGMAS, vfs=vfs)
        try:
            # The first read finds the journal, syncs it, puts back its pages and removes it.
            db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        finally:
            db.close()
        # What SQLite takes for no journal (it was never synced) is none.
        journal.unlink(missing_ok=True)
        sync_folder(path.parent)
