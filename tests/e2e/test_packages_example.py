"""examples/packages.py at a small size: its own exit code says whether all was settled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from apt_index import SAMPLE, parse_stanza, read_packages


def test_every_package_is_settled_though_the_broker_is_killed_twice(
    repository: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "examples/packages.py", "--source", str(SAMPLE)],
        cwd=repository,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("SIGKILL") == 2
    header, *rows = done.stdout.splitlines()[1:]
    assert header.split()[:3] == ["consumer", "members", "settled"]
    count = len(list(read_packages(SAMPLE)))
    settled = {row.split()[0]: row.split()[2] for row in rows}
    assert settled["archive"] == settled["indexers"] == f"{count:,}"
    assert 0 < int(settled["python"]) < count


def test_the_sample_names_nobody() -> None:
    for package in read_packages(SAMPLE):
        assert b"@" not in package.stanza
        assert b"Maintainer" not in package.stanza


def test_names_become_tokens() -> None:
    package = parse_stanza(b"Package: python3.11\nVersion: 3.11.2-6\nSection: contrib/python\n")
    assert package is not None
    assert package.subject == "packages.contrib/python.python3_11"
    assert package.id == "python3.11_3.11.2-6_"
    assert parse_stanza(b"Origin: Debian\n") is None
