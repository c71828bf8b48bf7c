"""Envelopes of the per-message RPCs: checked on the way in, made on the way out."""

from __future__ import annotations

from hermes.broker import subject_wire
from hermes.broker.batch import (
    IncomingBatch,
    MessageView,
    check_headers,
    check_id,
    check_message_bytes,
    single,
)
from hermes.broker.subject import check_publishable, validate_pattern
from hermes.broker.subject_wire import Encoding
from hermes.broker.v1 import broker_pb2
from hermes.errors import InvalidArgumentError


def incoming(envelope: broker_pb2.EventEnvelope, message_bytes_max: int) -> IncomingBatch:
    """The batch of one message that an envelope is.

    Raises InvalidArgumentError (empty id or subject, a malformed or reserved subject, a
    pattern) or LimitExceededError.
    """
    if not envelope.id:
        raise InvalidArgumentError("id must not be empty", hint="a UUID will do")
    check_id(envelope.id)
    subject, _ = subject_wire.decode(envelope.subject)
    check_publishable(subject)
    check_message_bytes(len(envelope.payload), message_bytes_max)
    headers = dict(envelope.headers)
    check_headers(headers)
    return single(
        subject,
        envelope.payload,
        id=envelope.id,
        headers=headers,
        timestamp_ns=envelope.timestamp_nanos,
    )


def pattern_of(data: bytes) -> tuple[str, Encoding]:
    """The pattern a subscriber asks for, and how it writes subjects."""
    pattern, encoding = subject_wire.decode(data)
    validate_pattern(pattern)
    return pattern, encoding


def envelope_of(view: MessageView, subject: str, encoding: Encoding) -> broker_pb2.EventEnvelope:
    """A message as a subscriber of this encoding reads it."""
    return broker_pb2.EventEnvelope(
        id=view.id,
        subject=subject_wire.encode(subject, encoding),
        payload=view.payload,
        headers=view.headers,
        timestamp_nanos=view.timestamp_ns,
    )
