"""Walk one piece of a segment: what a worker process does.

A piece is a range of lsns in one segment file. Its worker opens the file, walks the rows,
checks the signatures of the checkpoints it meets, closes the file, and answers with plain
data.

Judging pieces against each other, and choosing them, is the work of the modules beside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from hermes.checkpoint import parse_checkpoint
from hermes.errors import StoreError
from hermes.log.chain_walk import Break, ChainWalk, Kept, Walked
from hermes.log.record import Kind
from hermes.log.scan import SegmentScan
from hermes.log.segment_walk import walk_rows
from hermes.log.v1 import log_pb2
from hermes.signed_note import NoteError, VerifierKey, parse_key
from hermes_inspect.yielding import Yielding

# Read in one transaction: some milliseconds, so that nobody waits for it.
READ_BYTES: Final = 4 * 1024 * 1024


class Piece(msgspec.Struct, frozen=True):
    """Records `first_lsn`..`last_lsn` of a segment file, about so many bytes of it."""

    path: Path
    first_lsn: int
    last_lsn: int
    bytes: int


class Claim(msgspec.Struct, frozen=True):
    """Somebody signed that record `lsn` has the link `chain`. `source` says where it stands."""

    lsn: int
    chain: bytes
    at_ns: int
    source: str
    signer: str = ""  # verifier key; empty: the signature was not checked
    segment: str | None = None
    record_lsn: int | None = None


class PieceWalked(msgspec.Struct):
    """What became of a piece. `claims` are the checkpoints in it that name a record elsewhere."""

    walked: Walked
    claims: list[Claim]
    checkpoints: int
    newest: Claim | None


def walk_piece(piece: Piece, keys: tuple[str, ...], store_id: str) -> PieceWalked:
    """Verify one piece. `keys` are verifier keys; none: signatures are not checked."""
    name = piece.path.name
    walk = ChainWalk(piece.first_lsn, None, segment=name)
    try:
        with SegmentScan(piece.path) as scan:
            walk = ChainWalk(piece.first_lsn, _chain_before(scan, piece), segment=name)
            yielding = Yielding(piece.path.parent)
            walk_rows(
                scan,
                walk,
                piece.last_lsn,
                read_bytes=READ_BYTES,
                on_rows=lambda _: yielding.between_steps(),
            )
            return _checked(scan, walk, [parse_key(key) for key in keys], store_id)
    except StoreError as error:
        if walk.seen.last_lsn < piece.last_lsn:
            walk.skip(piece.last_lsn, error.message)
    return PieceWalked(walk.seen, [], 0, None)


def _chain_before(scan: SegmentScan, piece: Piece) -> bytes | None:
    """The stored link before the piece; None when it cannot be told, which is a break elsewhere."""
    try:
        start = scan.start()
        if start.first_lsn == piece.first_lsn:
            return start.before.chain
        return scan.chain_at(piece.first_lsn - 1)
    except StoreError:
        return None


# ----------------------------------------------------------- checkpoints in the log


def _checked(
    scan: SegmentScan, walk: ChainWalk, keys: list[VerifierKey], store_id: str
) -> PieceWalked:
    """Check the checkpoints that were met; keep of them only what must be looked up elsewhere."""
    answer = PieceWalked(walk.seen, [], 0, None)
    for kept in walk.seen.kept:
        if kept.kind != Kind.CHECKPOINT:
            continue
        answer.checkpoints += 1
        claim = read_claim(kept, keys, store_id, walk)
        if claim is None:
            continue
        answer.newest = claim
        try:
            chain = scan.chain_at(claim.lsn)
        except StoreError:
            continue  # a break of its own
        if chain is None:
            answer.claims.append(claim)
        elif chain != claim.chain:
            walk.add(contradiction(claim, chain, segment=walk.segment))
    walk.seen.kept = [kept for kept in walk.seen.kept if kept.kind != Kind.CHECKPOINT]
    return answer


def read_claim(kept: Kept, keys: list[VerifierKey], store_id: str, walk: ChainWalk) -> Claim | None:
    """What a Checkpoint record claims; None, and a break, if it is not what it must be."""

    def refuse(text: str, expected: str | None = None, found: str | None = None) -> None:
        walk.add(
            Break(
                "checkpoint",
                f"record {kept.lsn}, a checkpoint, {text}",
                walk.segment,
                kept.lsn,
                expected=expected,
                found=found,
            )
        )

    try:
        body = log_pb2.Checkpoint.FromString(kept.body)
        signed = parse_checkpoint(body.note)
        signer = str(signed.signer(keys)) if keys else ""
    except (DecodeError, NoteError) as error:
        refuse(f"does not verify: {error}")
        return None
    said = signed.checkpoint
    if said.store_id != store_id:
        refuse("is of another store", store_id, said.store_id)
        return None
    if (said.lsn, said.chain, said.at_ns) != (body.lsn, body.chain, body.at_ns):
        refuse("says other than its note", said.text, f"{body.lsn} {body.chain.hex()}")
        return None
    if said.lsn >= kept.lsn:
        refuse("names a record that came after it", f"below {kept.lsn}", str(said.lsn))
        return None
    source = f"the checkpoint in record {kept.lsn}"
    return Claim(said.lsn, said.chain, said.at_ns, source, signer, walk.segment, kept.lsn)


def contradiction(claim: Claim, chain: bytes, *, segment: str | None) -> Break:
    """A record's link is not the one that was signed."""
    return Break(
        "checkpoint",
        f"record {claim.lsn} has another link than was signed ({claim.source}):"
        " the history up to it was rewritten",
        segment,
        claim.lsn,
        expected=claim.chain.hex(),
        found=chain.hex(),
    )
