"""The table that opening asks: whole, unambiguous, and cautious."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hermes.log.recovery_plan import (
    RULES,
    Decision,
    End,
    Facts,
    Format,
    Head,
    Lock,
    Place,
    Segments,
    Step,
    Wal,
    every_combination,
    plan_recovery,
)

COMBINATIONS = every_combination()


def test_every_combination_has_exactly_one_row() -> None:
    assert len(COMBINATIONS) == 3 * 2 * 2 * 5 * 7 * 4 * 2 * 2
    assert len(set(COMBINATIONS)) == len(COMBINATIONS)
    fitting = {facts: [rule.name for rule in RULES if rule.fits(facts)] for facts in COMBINATIONS}
    assert {facts: names for facts, names in fitting.items() if len(names) != 1} == {}
    used = {names[0] for names in fitting.values()}
    assert used == {rule.name for rule in RULES}, "a row that nothing fits"
    assert len(used) == len(RULES), "two rows of one name"


def test_a_refusal_names_its_error_and_does_nothing() -> None:
    for facts in COMBINATIONS:
        plan = plan_recovery(facts)
        refused = plan.decision is Decision.REFUSE
        assert refused == (plan.rule.refusal is not None)
        assert refused == (plan.steps == ())
        assert list(plan.steps) == [step for step in Step if step in plan.steps], "in order"


def test_what_comes_after_a_refusing_fact_changes_nothing() -> None:
    """Opening does not look on after such a fact: what it did not see must not matter."""
    refusing = (
        ("place", {Place.FILE, Place.FOREIGN}),
        ("lock", {Lock.HELD}),
        ("format", {Format.NEWER}),
        ("head", {Head.UNFINISHED}),
        ("segments", {Segments.MISSING, Segments.DAMAGED, Segments.STRANGE}),
    )
    names = Facts.__struct_fields__
    for facts in COMBINATIONS:
        for name, values in refusing:
            if getattr(facts, name) in values:
                seen = {n: getattr(facts, n) for n in names[: names.index(name) + 1]}
                assert plan_recovery(Facts(**seen)) == plan_recovery(facts)
                break


def test_accepting_a_loss_excuses_only_what_is_gone() -> None:
    for facts in COMBINATIONS:
        if not facts.accept_loss:
            continue
        strict = plan_recovery(msgspec.structs.replace(facts, accept_loss=False))
        lenient = plan_recovery(facts)
        if strict.decision is not Decision.REFUSE:
            assert lenient == strict
        elif lenient.decision is not Decision.REFUSE:
            assert facts.head is not Head.SOUND or facts.end in End.SHORT | End.CHANGED
            if facts.segments is not Segments.NONE:
                assert facts.end is not End.CHANGED


def test_nothing_committed_is_left_out_without_a_word() -> None:
    """A log that is shorter or other than HEAD is never simply opened."""
    for facts in COMBINATIONS:
        decision = plan_recovery(facts).decision
        if facts.head in Head.SOUND | Head.ONE_BAD and facts.end in End.SHORT | End.CHANGED:
            assert decision in (Decision.REFUSE, Decision.ACCEPT_LOSS)
        if facts.segments in Segments.MISSING | Segments.DAMAGED | Segments.STRANGE:
            assert decision is Decision.REFUSE
        if decision is Decision.ACCEPT_LOSS:
            assert facts.accept_loss


def test_a_damaged_segment_is_never_left_out_without_a_word_and_excuses_nothing() -> None:
    """It refuses nothing that would be opened without it, and opens nothing that would not."""
    for facts in COMBINATIONS:
        if facts.segments is not Segments.DESCRIBED:
            continue
        plan = plan_recovery(facts)
        whole = plan_recovery(msgspec.structs.replace(facts, segments=Segments.WHOLE))
        assert (plan.decision is Decision.REFUSE) == (whole.decision is Decision.REFUSE)
        assert plan.warns == (plan.decision is not Decision.REFUSE)
        assert plan.steps == whole.steps


def test_a_wal_is_copied_wherever_a_log_is_opened_and_decides_nothing() -> None:
    for facts in COMBINATIONS:
        plan = plan_recovery(facts)
        other = Wal.EMPTY if facts.wal is Wal.HELD else Wal.HELD
        assert plan_recovery(msgspec.structs.replace(facts, wal=other)).rule == plan.rule
        opens = plan.decision not in (Decision.REFUSE, Decision.CREATE)
        assert (Step.COPY_WALS in plan.steps) == (opens and facts.wal is Wal.HELD)


def test_the_table_for_operators_has_every_row(repository: Path) -> None:
    text = (repository / "docs" / "operations.md").read_text("utf-8")
    assert [rule.name for rule in RULES if f"\n| {rule.name} | " not in text] == []
