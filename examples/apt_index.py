"""Reads Debian package indexes: the machine's own, or the sample beside this file.

A stanza is the paragraph of one package, a few hundred bytes to ten kilobytes:

    Package: python3.11
    Version: 3.11.2-6+deb12u6
    Section: python
    ...
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).parent / "data" / "packages-sample.txt.gz"
APT_LISTS = Path("/var/lib/apt/lists")
APT_HELPER = Path("/usr/lib/apt/apt-helper")

_FIELD = re.compile(rb"^(Package|Version|Architecture|Section): *(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """One message: where it goes, under which id, and the stanza itself."""

    subject: str
    id: str
    stanza: bytes


def read_packages(source: Path | None = None) -> Iterator[Package]:
    """Every package of the index files in `source` (or the one file it is), each once."""
    seen: set[str] = set()
    for path in index_files(source):
        for stanza in read_index(path).split(b"\n\n"):
            package = parse_stanza(stanza.strip(b"\n"))
            if package is not None and package.id not in seen:
                seen.add(package.id)
                yield package


def index_files(source: Path | None = None) -> list[Path]:
    """The machine's package indexes; the sample when it has none."""
    if source is not None and source.is_file():
        return [source]
    return sorted((source or APT_LISTS).glob("*_Packages*")) or [SAMPLE]


def read_index(path: Path) -> bytes:
    """The text of an index, whatever it is compressed with."""
    match path.suffix:
        case ".gz":
            return gzip.decompress(path.read_bytes())
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".bz2":
            return bz2.decompress(path.read_bytes())
        case ".lz4" | ".zst":  # not in Python's library; apt reads what apt wrote
            return subprocess.check_output([APT_HELPER, "cat-file", path])
        case _:
            return path.read_bytes()


def parse_stanza(stanza: bytes) -> Package | None:
    """None for a paragraph that is no package."""
    fields = {key.decode(): value.decode() for key, value in _FIELD.findall(stanza)}
    if "Package" not in fields:
        return None
    name, section = fields["Package"], fields.get("Section", "unknown")
    identity = "_".join((name, fields.get("Version", ""), fields.get("Architecture", "")))
    return Package(f"packages.{token(section)}.{token(name)}", identity, stanza)


def token(text: str) -> str:
    """A name as one token of a subject: a dot would end it.

    Debian's names have no underscore, so `python3.11` and no other becomes `python3_11`.
    """
    return text.replace(".", "_")
