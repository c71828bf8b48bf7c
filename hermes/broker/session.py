"""Sessions: the clients behind the events.

A session is one client connection, recorded (SessionOpened) when it first causes an
event and closed a while after its last stream ended: a client that makes many short
calls on one connection is one session, not many.
"""

from __future__ import annotations

import msgspec

from hermes.broker import events as ev
from hermes.broker.journal import Journal

LINGER_NS = 60 * 10**9


class Client(msgspec.Struct, frozen=True):
    """Who is calling. Two streams of one client object on one connection are equal."""

    principal: str
    peer: str
    name: str
    version: str
    id: str  # the same across reconnects; empty when the client sends none


class Session(msgspec.Struct):
    """A client while it has streams, and a little longer."""

    client: Client
    lsn: int = 0  # 0: nothing recorded yet
    streams: int = 0
    idle_since_ns: int = 0


class Sessions:
    """The sessions of this process."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._sessions: dict[Client, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def attach(self, client: Client) -> Session:
        """A stream begins. Pair with `detach`."""
        session = self._sessions.get(client)
        if session is None:
            session = self._sessions[client] = Session(client)
        session.streams += 1
        return session

    def detach(self, session: Session, now_ns: int) -> None:
        """A stream has ended."""
        session.streams -= 1
        session.idle_since_ns = now_ns
        if not session.streams and not session.lsn:
            self._sessions.pop(session.client, None)

    def lsn(self, session: Session, now_ns: int) -> int:
        """The session's identity, recorded now if it has none yet."""
        if not session.lsn:
            client = session.client
            session.lsn = self._journal.record(
                ev.SessionOpened(
                    engine_time_ns=now_ns,
                    principal=client.principal,
                    peer=client.peer,
                    client_name=client.name,
                    client_version=client.version,
                    client_id=client.id,
                )
            )
        return session.lsn

    def close_idle(self, now_ns: int, linger_ns: int = LINGER_NS) -> None:
        """Record the end of sessions without streams for longer than the linger."""
        idle = [
            session
            for session in self._sessions.values()
            if not session.streams and now_ns - session.idle_since_ns >= linger_ns
        ]
        for session in idle:
            self._journal.record(ev.SessionClosed(engine_time_ns=now_ns, session=session.lsn))
            del self._sessions[session.client]
