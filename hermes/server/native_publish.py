"""PublishBatches: batches in, runs of results out, pipelined and in order.

A stream counts its batches: sequences are dense from the first on. A batch that is
refused uses up its sequence and the stream goes on; only a wrong order of frames ends
it. Results leave in order of sequence, whatever was durable or live, and neighbours
whose messages lie side by side in the line leave as one run.

A producer id belongs to one stream at a time: a newer stream that names it ends the
older, so that what a client sends again cannot race with what it sent before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec

from hermes import limits
from hermes.broker.batch import IncomingBatch, check_batch
from hermes.broker.publishing import PublishResult
from hermes.broker.subject import check_publishable
from hermes.broker.v1 import broker_pb2
from hermes.errors import FencedError, HermesError, InvalidArgumentError, LimitExceededError
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.sessions import Stream
from hermes.server.status import refusal


class _Answer(msgspec.Struct):
    """The place of one request in the order of answers; `results` once there are any."""

    sequence: int
    batches: int
    results: Sequence[PublishResult] | None = None


class PublishBatches:
    """One PublishBatches stream."""

    def __init__(self, host: Host, config: ServerConfig, stream: Stream) -> None:
        self._host = host
        self._config = config
        self._stream = stream
        self._batch_bytes_max = config.frame_bytes_max - limits.DELIVERY_OVERHEAD_BYTES
        self._producer_id = b""
        self._next_sequence = 0  # 0: not opened yet
        self._opened: broker_pb2.PublishOpened | None = None  # ready to be sent
        self._opened_sent = False
        self._answers: deque[_Answer] = deque()
        self._waiting = 0  # batches without a sent result
        self._sent = asyncio.Event()

    async def run(self, requests: AsyncIterator[broker_pb2.PublishBatchesRequest]) -> None:
        try:
            await self._stream.pump(self._read(requests), self._take, self._busy)
        finally:
            if self._host.producers.get(self._producer_id) is self._stream:
                del self._host.producers[self._producer_id]

    # ---------------------------------------------------------------- reading

    async def _read(self, requests: AsyncIterator[broker_pb2.PublishBatchesRequest]) -> None:
        self._stream.registered()
        async for request in requests:
            # Before it is taken: else each of many streams gets one more into a full queue.
            if request.batches and self._host.engine.publish_blocked:
                await self._host.publish_room()
            self._accept(request)
            del request  # not to be held while the next one is waited for
            while self._waiting > limits.ANSWERS_WAITING_MAX:
                self._sent.clear()
                await self._sent.wait()

    def _accept(self, request: broker_pb2.PublishBatchesRequest) -> None:
        if request.HasField("open"):
            self._open(request.open)
        elif not self._next_sequence:
            raise InvalidArgumentError(
                "the first request of a PublishBatches stream has no `open`",
                hint="send PublishOpen first; it may be empty but for first_sequence",
            )
        if not request.batches:
            return
        if request.sequence != self._next_sequence:
            raise InvalidArgumentError(
                f"sequence {request.sequence} is out of order, expected {self._next_sequence}",
                hint="number the batches of a stream without gaps, from first_sequence on",
            )
        checked = [self._check(batch) for batch in request.batches]
        answer = _Answer(request.sequence, len(checked))
        reply = partial(self._settle, answer)
        engine = self._host.engine
        if request.live:
            engine.publish_live(self._stream.session, checked, reply)
        else:
            engine.publish(
                self._stream.session,
                checked,
                reply,
                producer_id=self._producer_id,
                first_sequence=request.sequence,
            )
        # Only now: an answer to what was never taken would be waited for in vain.
        self._answers.append(answer)
        self._next_sequence += len(checked)
        self._waiting += len(checked)

    def _open(self, request: broker_pb2.PublishOpen) -> None:
        if self._next_sequence:
            raise InvalidArgumentError("`open` belongs in the first request of a stream only")
        if len(request.producer_id) > limits.PRODUCER_ID_BYTES_MAX:
            raise InvalidArgumentError(
                f"producer_id has {len(request.producer_id)} bytes, "
                f"expected at most {limits.PRODUCER_ID_BYTES_MAX}"
            )
        if not request.first_sequence:
            raise InvalidArgumentError("first_sequence is 0, expected at least 1")
        self._producer_id = request.producer_id
        self._next_sequence = request.first_sequence
        engine = self._host.engine
        last_sequence = 0
        if self._producer_id:
            older = self._host.producers.get(self._producer_id)
            if older is not None:
                older.end(FencedError("a newer stream publishes under this producer id"))
            self._host.producers[self._producer_id] = self._stream
            last_sequence = engine.state.producers.last_sequence(self._producer_id)
        opened = broker_pb2.PublishOpened(
            max_message_bytes=self._config.max_message_bytes,
            max_batch_messages=limits.BATCH_MESSAGES_MAX,
            max_frame_bytes=self._config.frame_bytes_max,
            last_sequence=last_sequence,
        )
        if not last_sequence:
            self._say_opened(opened)
            return
        # What it says of the producer must be true whatever happens: wait for the disk.
        engine.journal.after_commit(partial(self._say_opened, opened))
        self._host.wake()

    def _say_opened(self, opened: broker_pb2.PublishOpened) -> None:
        self._opened = opened
        self._stream.wake()

    def _check(self, batch: broker_pb2.Batch) -> IncomingBatch | HermesError:
        subject, head, content = batch.subject, batch.head, batch.content
        try:
            check_publishable(subject)
            checked = check_batch(subject, head, content, self._config.max_message_bytes)
            batch_bytes = len(head) + len(content)
            if batch_bytes > self._batch_bytes_max:
                raise LimitExceededError(
                    f"batch of {batch_bytes:,} bytes is over the limit of "
                    f"{self._batch_bytes_max:,} bytes",
                    hint="send smaller batches, as many as you like in one frame",
                )
        except HermesError as error:
            return error
        return checked

    # ---------------------------------------------------------------- writing

    def _settle(self, answer: _Answer, results: Sequence[PublishResult]) -> None:
        answer.results = results
        self._stream.wake()

    def _busy(self) -> bool:
        return bool(self._answers) or bool(self._next_sequence and not self._opened_sent)

    def _take(self) -> broker_pb2.PublishBatchesResponse | None:
        response = broker_pb2.PublishBatchesResponse()
        some = False
        if not self._opened_sent:
            if self._opened is None:
                return None
            response.opened.CopyFrom(self._opened)
            self._opened_sent = some = True
        drain = self._stream.take_drain()
        if drain is not None:
            response.drain.CopyFrom(drain)
            some = True
        runs = _Runs(response)
        answers = self._answers
        while answers and answers[0].results is not None and runs.size < limits.FRAME_RESULTS_MAX:
            answer = answers.popleft()
            self._waiting -= answer.batches
            assert answer.results is not None
            for i, result in enumerate(answer.results):
                runs.add(answer.sequence + i, result)
            some = True
        self._sent.set()
        return response if some else None


class _Runs:
    """Puts results into a response, joining those of neighbours."""

    def __init__(self, response: broker_pb2.PublishBatchesResponse) -> None:
        self.size = 0
        self._results = response.results
        self._run: broker_pb2.PublishResult | None = None  # can be continued
        self._next_offset = -1  # of the run; -1: live

    def add(self, sequence: int, result: PublishResult) -> None:
        plain = not (result.duplicates or result.duplicate or result.refusal)
        offset = -1 if result.base_offset is None else result.base_offset
        run = self._run
        if plain and run is not None and offset == self._next_offset:
            run.batches += 1
            run.count += result.count
        else:
            run = self._begin(sequence, result)
            self._run = run if plain else None
        self._next_offset = -1 if offset < 0 else offset + result.count

    def _begin(self, sequence: int, result: PublishResult) -> broker_pb2.PublishResult:
        run = self._results.add(sequence=sequence, batches=1, count=result.count)
        self.size += 1 + len(result.duplicates)
        if result.base_offset is not None:
            run.base_offset = result.base_offset
        run.duplicate = result.duplicate
        for index, offset in result.duplicates:
            run.duplicate_indexes.append(index)
            run.duplicate_offsets.append(offset)
        if result.refusal is not None:
            code, message, hint = refusal(result.refusal)
            run.refusal.code, run.refusal.message, run.refusal.hint = code, message, hint
        return run
