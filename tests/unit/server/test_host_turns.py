"""When a host turns its engine: at once, or with the outcome of the commit under way."""

from __future__ import annotations

import asyncio

from hermes.broker.batch import single
from hermes.broker.core import Settings
from hermes.broker.publishing import PublishResult
from hermes.broker.recovery import recover
from hermes.broker.session import Client
from hermes.limits import WAITING_RECORDS_MAX
from hermes.log.memory import MemoryLog
from hermes.log.port import Outcome
from hermes.server.host import Host
from tests.support.world import POLICY, VirtualClock


class Turning:
    """A host over a log whose commits the test releases."""

    def __init__(self) -> None:
        self.log = MemoryLog(self._tell, auto_commit=False)
        settings = Settings(default_policy=POLICY)
        self.host = Host(self.log, recover(self.log.reader()), settings, VirtualClock())
        self.session = self.host.engine.attach(Client("", "peer", "test", "1", "id"))
        self.acked = 0

    def _tell(self, outcome: Outcome) -> None:
        self.host.on_outcome(outcome)

    def publish(self, messages: int = 1) -> None:
        batches = [single("a.b", b"x")] * messages
        self.host.engine.publish(self.session, batches, self._settle)

    def _settle(self, results: list[PublishResult]) -> None:
        self.acked += len(results)

    async def groups(self) -> int:
        """What was handed to the log and is not committed, once the loop has gone round."""
        await asyncio.sleep(0)
        return self.log.pending


async def test_nothing_waits_while_the_log_is_idle() -> None:
    turning = Turning()
    turning.publish()
    assert await turning.groups() == 1


async def test_what_comes_during_a_commit_shares_the_next() -> None:
    turning = Turning()
    turning.publish()
    assert await turning.groups() == 1
    for _ in range(5):
        turning.publish()
        assert await turning.groups() == 1
    turning.log.commit()
    assert turning.acked == 1
    assert await turning.groups() == 1
    turning.log.commit()
    assert turning.acked == 6
    assert await turning.groups() == 0


async def test_much_is_handed_over_while_a_commit_is_under_way() -> None:
    turning = Turning()
    turning.publish()
    assert await turning.groups() == 1
    turning.publish(WAITING_RECORDS_MAX)
    assert await turning.groups() == 2
