"""What is generated and committed is what its source makes now."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def generated_files(root: Path) -> dict[str, bytes]:
    paths = [*root.rglob("*_pb2.py"), *root.rglob("*_pb2.pyi")]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_protobuf_code_is_what_protoc_makes(repository: Path, tmp_path: Path) -> None:
    script = repository / "tools" / "generate_proto.py"
    subprocess.run([sys.executable, script, "--out", tmp_path], check=True, timeout=60)
    made = generated_files(tmp_path / "hermes")
    committed = generated_files(repository / "hermes")
    assert made, "protoc made nothing"
    assert sorted(committed) == sorted(made)
    stale = sorted(name for name in made if made[name] != committed[name])
    assert stale == [], "run `make proto`"


def test_lock_pins_every_requirement_with_hashes(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    asked = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
    ]
    lock = (repository / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    pinned: dict[str, str] = {}
    for entry in entries:
        name, version = entry.split()[0].split("==")
        assert "--hash=sha256:" in entry, f"{name} has no hash"
        pinned[canonicalize_name(name)] = version
    missing = [
        str(need)
        for need in map(Requirement, asked)
        if not need.specifier.contains(pinned.get(canonicalize_name(need.name), "0.dev0"))
    ]
    assert missing == [], "run `make lock`"


def test_lock_names_no_index(repository: Path) -> None:
    # The lock installs from wherever the machine installs from.
    lock = (repository / "requirements.lock").read_text()
    assert re.findall(r"^--|://", lock, flags=re.MULTILINE) == []
