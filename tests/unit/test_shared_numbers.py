"""Numbers that are written down twice agree."""

from __future__ import annotations

from hermes import limits
from hermes.broker.events import DeadCause, DeleteCause, ReleaseCause
from hermes.broker.settling import Verdict
from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind
from hermes.log.v1 import log_pb2


def test_record_kinds_are_those_of_the_disk_format() -> None:
    on_disk = {name: number for name, number in log_pb2.Kind.items() if number}
    assert {kind.name: int(kind) for kind in Kind} == on_disk


def test_verdicts_are_those_of_the_wire() -> None:
    on_wire = {
        name.removeprefix("VERDICT_"): number
        for name, number in broker_pb2.Verdict.items()
        if number
    }
    assert {verdict.name: int(verdict) for verdict in Verdict} == on_wire


def test_causes_are_those_of_the_disk_format() -> None:
    for ours, theirs in (
        (ReleaseCause, log_pb2.ReleaseCause),
        (DeadCause, log_pb2.DeadCause),
        (DeleteCause, log_pb2.DeleteCause),
    ):
        assert [int(cause) for cause in ours] == [n for n in theirs.values() if n]


def test_limits_do_not_contradict_each_other() -> None:
    limits.check_relations()
