"""Who a session was: resolved by its lsn, remembered.

Records name the session that caused them by the lsn of its SessionOpened. That record may
be gone with its segment; a session that was still open then stands in the snapshot that
the oldest held segment begins with.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.broker.state import Session
from hermes.log.reader import SqliteReader
from hermes.log.record import Kind
from hermes.log.v1 import log_pb2

# Sessions remembered; a busy log has one per client connection.
REMEMBERED_MAX: Final = 10_000


class Sessions:
    """The clients behind a store's records."""

    def __init__(self, reader: SqliteReader) -> None:
        self._reader = reader
        self._known: dict[int, Session | None] = {}

    def __call__(self, session: int) -> Session | None:
        """The client of a session; None for the broker itself (0) and for one unknown."""
        if not session:
            return None
        if session not in self._known:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[session] = self._look_up(session)
        return self._known[session]

    def _look_up(self, session: int) -> Session | None:
        records = self._reader.read(session, limit=1, limit_bytes=1, payloads=False)
        if records and records[0].lsn == session and records[0].kind == Kind.SESSION_OPENED:
            event = decode(records[0])
            if isinstance(event, ev.SessionOpened):
                return Session(
                    event.principal,
                    event.peer,
                    event.client_name,
                    event.client_version,
                    event.client_id,
                )
        return self.oldest.get(session)

    @cached_property
    def oldest(self) -> dict[int, Session]:
        """The sessions that were open where the log now begins, by their lsns."""
        entries = self._reader.entries()
        if not entries:
            return {}
        first_lsn = entries[0].first_lsn
        for record in self._reader.read(first_lsn, limit=2, limit_bytes=1 << 30, payloads=False):
            if record.kind == Kind.SNAPSHOT:
                snapshot = log_pb2.Snapshot.FromString(record.body)
                return {one.session: _session(one) for one in snapshot.sessions}
        return {}


def _session(one: log_pb2.SnapshotSession) -> Session:
    return Session(one.principal, one.peer, one.client_name, one.client_version, one.client_id)
