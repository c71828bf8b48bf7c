"""Every segment of a store described, as people and garbage collection ask for them.

By what is known of the sealed ones and a few look-ups in each file; one in quarantine is
described by its seal alone. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from hermes.log.held import Held, HeldCache, file_bytes, read_held
from hermes.log.port import SegmentInfo

if TYPE_CHECKING:
    from hermes.log.catalog import Entry
    from hermes.log.facts import SegmentFacts
    from hermes.log.reader import SqliteReader


def segment_infos(
    reader: SqliteReader, known: HeldCache, *, subjects: bool, without: Collection[int] = ()
) -> list[SegmentInfo]:
    """All segments but `without` (first lsns), oldest first, the active one last.

    `known` is what was told of sealed files before. Raises StoreError.
    """
    infos = []
    entries = [entry for entry in reader.entries() if entry.first_lsn not in without]
    for entry in entries:
        facts = entry.facts or reader.describe(entry)
        if facts is None:
            continue
        sealed = entry is not entries[-1]
        held = _held_in(reader, known, entry, facts, sealed=sealed)
        infos.append(
            SegmentInfo(
                first_lsn=entry.first_lsn,
                last_lsn=facts.last_lsn,
                records=facts.records,
                bytes=file_bytes(entry.path),
                first_offset=facts.first_offset,
                last_offset=facts.last_offset,
                lowest_touched=facts.lowest_touched,
                highest_touched=facts.highest_touched,
                first_at_ns=facts.first_at_ns,
                last_at_ns=facts.last_at_ns,
                sealed=sealed,
                subjects=reader.subjects(entry) if subjects and not entry.damage else (),
                payload_bytes=held.payload_bytes,
                compacted_lsn=held.compacted_lsn,
                retired=held.retired,
                quarantined=entry.damage,
            )
        )
    known.keep({entry.path for entry in entries})
    return infos


def _held_in(
    reader: SqliteReader, known: HeldCache, entry: Entry, facts: SegmentFacts, *, sealed: bool
) -> Held:
    held = known.get(entry.path) if sealed else None
    if held is None and entry.damage:
        return Held(0)
    if held is None:
        held = reader.look(entry, lambda db: read_held(db, facts.first_lsn, facts.last_lsn))
        if held is None:  # dropped meanwhile
            return Held(0)
        if sealed:
            known.put(entry.path, held)
    return held
