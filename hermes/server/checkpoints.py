"""Signed checkpoints: when one is due, what it says, where it goes.

A checkpoint names a committed record and its link. The log tells its committed mark, the
signer signs it, the engine keeps it in the log, the sinks carry it away. It is due

- within a second of each roll, so that every sealed segment is soon covered;
- when the interval has passed and something was committed besides the last checkpoint;
- at an orderly stop, to the sinks alone: nothing may follow ServerStopped in the log.

The signed lsn is committed before the note exists, so no note ever says more than the disk.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hermes.clock import Clock
from hermes.errors import UnavailableError
from hermes.server.checkpoint_key import Signer, open_signer
from hermes.server.checkpoint_sinks import Sink, open_sinks
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.settings import NS_PER_SEC

LOOK_SECS: Final = 1.0

_log = get_logger("hermes.server")


class Checkpoints:
    """The checkpoints of one host. Made by `open_checkpoints`."""

    def __init__(self, host: Host, signer: Signer, interval_secs: float, clock: Clock) -> None:
        self._host = host
        self._signer = signer
        self._clock = clock
        self._interval_ns = int(interval_secs * NS_PER_SEC)
        self._look_secs = min(LOOK_SECS, interval_secs)
        self._sinks: list[Sink] = []
        self._taken_ns = clock.monotonic_ns()
        self._recorded_lsn = 0  # of the last checkpoint's own record
        self._signed_lsn = 0  # what the last one is about

    def carry(self, sinks: list[Sink]) -> None:
        """Give every checkpoint from now on to these, too."""
        self._sinks = sinks

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Who gets them; their counts may be read by any thread."""
        return tuple(self._sinks)

    async def run(self) -> None:
        """For ever; cancel it to stop."""
        while not self._host.failed.done():
            await asyncio.sleep(self._look_secs)
            try:
                self.look()
            except UnavailableError:
                return  # the engine stops or has failed: another one follows
            except Exception as error:  # noqa: BLE001 - the next look may do better
                _log.error("a checkpoint could not be taken", exc_info=error)

    def look(self) -> None:
        """Take one if it is due. Raises UnavailableError."""
        mark = self._host.log.committed
        waited_ns = self._clock.monotonic_ns() - self._taken_ns
        rolled = self._signed_lsn < self._host.engine.rolled_at_lsn <= mark.lsn
        if rolled or (waited_ns >= self._interval_ns and mark.lsn > self._recorded_lsn):
            self.take()

    def take(self) -> None:
        """Sign the committed mark, keep it in the log, hand it out. Raises UnavailableError."""
        mark, at_ns = self._host.log.committed, self._clock.wall_ns()
        note = self._signer.sign(mark.lsn, mark.chain, at_ns)
        engine = self._host.engine
        self._recorded_lsn = engine.record_checkpoint(mark.lsn, mark.chain, at_ns, note)
        self._taken_ns = self._clock.monotonic_ns()
        self._signed_lsn = mark.lsn
        self._give(note)

    async def leave(self, timeout_secs: float, *, last: bool) -> None:
        """End the sinks; with `last`, after what is committed by now was signed for them.

        The log may be closed already: then that is its very end.
        """
        mark = self._host.log.committed
        if last and mark.lsn > self._recorded_lsn:
            self._give(self._signer.sign(mark.lsn, mark.chain, self._clock.wall_ns()))
        for sink in self._sinks:
            sink.leave()
        sinks, self._sinks = self._sinks, []
        await asyncio.gather(*(asyncio.to_thread(sink.join, timeout_secs) for sink in sinks))

    def _give(self, note: str) -> None:
        for sink in self._sinks:
            sink.give(note)


async def open_checkpoints(host: Host, config: ServerConfig, clock: Clock) -> Checkpoints | None:
    """Checkpoints as the settings ask for them; None when there are none to take.

    Raises KeyFileError.
    """
    if config.store_path is None or not config.checkpoint_interval_secs:
        return None
    signer = await asyncio.to_thread(
        open_signer, config.store_path, host.log.store_id, config.checkpoint_key
    )
    checkpoints = Checkpoints(host, signer, config.checkpoint_interval_secs, clock)
    sinks = open_sinks(config)
    checkpoints.carry(sinks)
    _log.info(
        "checkpoints are signed",
        public_key=str(signer.key),
        interval_secs=config.checkpoint_interval_secs,
        sinks=[sink.name for sink in sinks],
    )
    return checkpoints
