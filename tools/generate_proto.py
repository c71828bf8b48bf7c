"""Generate the protobuf code under hermes/ from proto/.

`make proto` writes into the tree; a test writes beside it and compares, so what is
committed is always what the pinned grpcio-tools makes. Services have no generated
stubs: server and client name their RPCs by path.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"


def generate(out: Path) -> None:
    """Write *_pb2.py and *_pb2.pyi for every .proto file below `out`.

    Raises SystemExit with protoc's code if it refuses a file; it has said why on stderr.
    """
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={well_known}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            *sources,
        ]
    )
    if code != 0:
        sys.exit(code)


def main() -> None:
    """Command line: where to write; the tree itself by default."""
    parser = argparse.ArgumentParser(description="Generate the protobuf code.")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write below")
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
