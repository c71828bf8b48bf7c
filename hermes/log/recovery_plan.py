"""[P] What to do with a store that is to be opened: one table over what was found.

Theory: opening observes (`observing.py`), asks `plan_recovery`, and acts (`opening.py`).
Everything that decides is here, as rows; nothing here touches a file.

    facts (what was found) -> the one row that fits -> decision, error, steps, report

Rules
1. Exactly one row fits each combination of facts. Rows do not depend on their order; a
   test walks every combination.
2. Facts are observed from left to right (the order of `Facts`), and what comes after a
   refusal is not looked at. So a row that refuses by one fact says nothing of later ones.
3. What was committed is never left out silently: a log that is shorter than HEAD, or
   other than HEAD, is refused. `accept_loss` is the operator's word that what is gone is
   gone; it excuses what is not there, never what is there and wrong.
4. A sealed segment that is damaged is left out and named, where the one behind it says
   exactly what it holds; it decides nothing about the log's end. One that nothing describes
   refuses the store, as does a damaged active one: what was acknowledged last is in it.

A WAL decides nothing by itself. What it holds counts as part of its segment, and is
copied; a WAL that lost commits (one flipped bit is enough) shows as a log shorter than HEAD.
"""

from __future__ import annotations

from enum import Enum, Flag, auto
from itertools import product
from typing import Final

import msgspec


class Place(Flag):
    """What the store's path is."""

    STORE = auto()  # a store, an empty folder, or nothing yet
    FILE = auto()
    FOREIGN = auto()  # a folder with other files and no store


class Lock(Flag):
    FREE = auto()
    HELD = auto()  # by another server


class Format(Flag):
    """The highest format version of HEAD and the segments."""

    KNOWN = auto()
    NEWER = auto()


class Head(Flag):
    """The two slots of HEAD."""

    SOUND = auto()
    ONE_BAD = auto()
    BOTH_BAD = auto()
    ABSENT = auto()
    UNFINISHED = auto()  # a restore has put its word in HEAD's place, and did not end


class Segments(Flag):
    """The segment files, by their ends: whether each can be read and follows the one before."""

    WHOLE = auto()
    BARE = auto()  # one, without a record yet
    NONE = auto()
    MISSING = auto()  # one of them
    DAMAGED = auto()  # one cannot be read, was cut short, renamed or changed
    DESCRIBED = auto()  # sealed ones are damaged; those behind say all that must be known
    STRANGE = auto()  # one is of another store


class End(Flag):
    """The log's end beside what HEAD knows; where HEAD says nothing, by itself."""

    FITS = auto()  # it ends with the record that HEAD names, and its last records hash
    AHEAD = auto()  # it holds that record and goes on: HEAD is synced seldom
    SHORT = auto()  # it ends before that record
    CHANGED = auto()  # that record has another link, or one of the last does not hash


class Wal(Flag):
    EMPTY = auto()  # or none
    HELD = auto()  # records that are not in the file yet


class Facts(msgspec.Struct, frozen=True):
    """What was found, in the order in which it is looked at."""

    place: Place = Place.STORE
    lock: Lock = Lock.FREE
    format: Format = Format.KNOWN
    head: Head = Head.SOUND
    segments: Segments = Segments.WHOLE
    end: End = End.FITS
    wal: Wal = Wal.EMPTY
    accept_loss: bool = False


class Decision(Enum):
    CREATE = "create"
    OPEN = "open"
    WARN = "open, with a warning"
    ACCEPT_LOSS = "go on after the loss"
    REFUSE = "refuse"


class Step(Enum):
    """What acting consists of, in this order. Each may be done again after a kill."""

    COPY_WALS = "copy every WAL into its file, synced"
    BEGIN_AFTER_LOSS = "begin a segment after HEAD's numbers, with Lost"
    FINISH_ANNOUNCED = "finish what the log announced"
    CLEAR_STRAYS = "remove what was being built, and files without a main file"
    CREATE_SEGMENT = "make the first segment"
    WRITE_HEAD = "write HEAD, both slots alike"


class Refusal(Enum):
    """Which error a refusal is (`hermes.errors`)."""

    LOCKED = "StoreLockedError"
    VERSION = "StoreVersionError"
    DAMAGED = "StoreDamagedError"
    NOT_A_STORE = "StoreError"


class Rule(msgspec.Struct, frozen=True):
    """A row. A fact that is not named may be anything, but for the first three, and a HEAD of
    an unfinished restore: those are as in a store that can be looked at."""

    name: str
    decision: Decision
    refusal: Refusal | None = None
    place: Place = Place.STORE
    lock: Lock = Lock.FREE
    format: Format = Format.KNOWN
    head: Head = ~Head.UNFINISHED
    segments: Segments = ~Segments(0)
    end: End = ~End(0)
    accept_loss: bool | None = None

    def fits(self, facts: Facts) -> bool:
        return (
            facts.place in self.place
            and facts.lock in self.lock
            and facts.format in self.format
            and facts.head in self.head
            and facts.segments in self.segments
            and facts.end in self.end
            and self.accept_loss in (None, facts.accept_loss)
        )


_CREATE, _OPEN, _WARN, _ACCEPT, _REFUSE = Decision
_LOCKED, _VERSION, _DAMAGED, _OTHER = Refusal
_SPEAKS: Final = Head.SOUND | Head.ONE_BAD
_WHOLE: Final = Segments.WHOLE | Segments.BARE
_READABLE: Final = _WHOLE | Segments.DESCRIBED
_HELD: Final = Segments.WHOLE | Segments.DESCRIBED
_FITS: Final = End.FITS | End.AHEAD
_WRONG: Final = End.SHORT | End.CHANGED

# fmt: off
RULES: Final = (
    # not a store, or not ours now
    Rule("not a folder", _REFUSE, _OTHER, Place.FILE, ~Lock(0), ~Format(0), ~Head(0)),
    Rule("other files", _REFUSE, _OTHER, Place.FOREIGN, ~Lock(0), ~Format(0), ~Head(0)),
    Rule("in use", _REFUSE, _LOCKED, lock=Lock.HELD, format=~Format(0), head=~Head(0)),
    Rule("newer format", _REFUSE, _VERSION, format=Format.NEWER, head=~Head(0)),
    # What is in place fits together, and is not all: no word of an operator makes it so.
    Rule("a restore was not finished", _REFUSE, _OTHER, head=Head.UNFINISHED),

    # no segments
    Rule("new", _CREATE, head=Head.ABSENT, segments=Segments.NONE),
    Rule("nothing committed yet", _CREATE,
         head=_SPEAKS, segments=Segments.NONE, end=_FITS),
    Rule("all segments gone", _REFUSE, _DAMAGED,
         head=_SPEAKS, segments=Segments.NONE, end=_WRONG, accept_loss=False),
    Rule("all segments gone, accepted", _ACCEPT,
         head=_SPEAKS, segments=Segments.NONE, end=_WRONG, accept_loss=True),
    # Nobody can say any more which numbers were used.
    Rule("a damaged HEAD alone", _REFUSE, _DAMAGED,
         head=Head.BOTH_BAD, segments=Segments.NONE),

    # segments that are not one log
    Rule("a segment of another store", _REFUSE, _OTHER, segments=Segments.STRANGE),
    Rule("a segment is missing", _REFUSE, _DAMAGED, segments=Segments.MISSING),
    Rule("a segment is damaged", _REFUSE, _DAMAGED, segments=Segments.DAMAGED),

    # a log, and no word of HEAD
    Rule("creation interrupted", _OPEN,
         head=Head.ABSENT, segments=Segments.BARE, end=_FITS),
    Rule("HEAD missing", _REFUSE, _DAMAGED,
         head=Head.ABSENT, segments=_HELD, end=_FITS, accept_loss=False),
    Rule("HEAD missing, accepted", _WARN,
         head=Head.ABSENT, segments=_HELD, end=_FITS, accept_loss=True),
    Rule("HEAD damaged", _REFUSE, _DAMAGED,
         head=Head.BOTH_BAD, segments=_READABLE, end=_FITS, accept_loss=False),
    Rule("HEAD damaged, accepted", _WARN,
         head=Head.BOTH_BAD, segments=_READABLE, end=_FITS, accept_loss=True),
    Rule("HEAD gone, and the tail was changed", _REFUSE, _DAMAGED,
         head=Head.ABSENT | Head.BOTH_BAD, segments=_READABLE, end=_WRONG),

    # a log, and HEAD knows how far it went
    Rule("sound", _OPEN, head=Head.SOUND, segments=_WHOLE, end=_FITS),
    Rule("one bad slot", _WARN, head=Head.ONE_BAD, segments=_WHOLE, end=_FITS),
    # Whatever HEAD's other slot says: the end of the log is what it vouches for.
    Rule("a damaged segment is left out", _WARN,
         head=_SPEAKS, segments=Segments.DESCRIBED, end=_FITS),
    Rule("shorter than HEAD", _REFUSE, _DAMAGED,
         head=_SPEAKS, segments=_READABLE, end=End.SHORT, accept_loss=False),
    Rule("shorter than HEAD, accepted", _ACCEPT,
         head=_SPEAKS, segments=_READABLE, end=End.SHORT, accept_loss=True),
    Rule("changed", _REFUSE, _DAMAGED,
         head=_SPEAKS, segments=_READABLE, end=End.CHANGED),
)
# fmt: on


class Plan(msgspec.Struct, frozen=True):
    """What is to be done: the row that fits, and its steps, in order; none for a refusal."""

    rule: Rule
    steps: tuple[Step, ...]

    @property
    def decision(self) -> Decision:
        return self.rule.decision

    @property
    def warns(self) -> bool:
        """Whether what was found is to be told to people, though the store is opened."""
        return self.rule.decision in (Decision.WARN, Decision.ACCEPT_LOSS)


def plan_recovery(facts: Facts) -> Plan:
    """The one row that fits, and what follows from it."""
    fitting = [rule for rule in RULES if rule.fits(facts)]
    assert len(fitting) == 1, f"{len(fitting)} rules fit {facts}"
    return Plan(fitting[0], _steps(fitting[0].decision, facts))


def _steps(decision: Decision, facts: Facts) -> tuple[Step, ...]:
    match decision:
        case Decision.REFUSE:
            return ()
        case Decision.CREATE:
            return (Step.CLEAR_STRAYS, Step.CREATE_SEGMENT, Step.WRITE_HEAD)
    steps = {Step.FINISH_ANNOUNCED, Step.CLEAR_STRAYS}
    if facts.wal is Wal.HELD:
        steps.add(Step.COPY_WALS)
    if decision is Decision.ACCEPT_LOSS:
        steps.add(Step.BEGIN_AFTER_LOSS)
    if facts.head is not Head.SOUND or facts.end is not End.FITS:
        steps.add(Step.WRITE_HEAD)
    return tuple(step for step in Step if step in steps)


def every_combination() -> list[Facts]:
    """All there can be to find, also what hardly ever comes together."""
    domains = (Place, Lock, Format, Head, Segments, End, Wal, (False, True))
    return [Facts(*values) for values in product(*domains)]
