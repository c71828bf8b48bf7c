"""Write the table of settings into README.md, from hermes/server/config.py.

python tools/settings_table.py          writes it
python tools/settings_table.py --check  exits 1 if it is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from hermes.server.config import SETTINGS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- settings: generated from hermes/server/config.py, checked by a test -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    """One row per setting: flag, environment variable, default, meaning."""
    rows = ["| flag | environment | default | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{s.flag}` | `{s.variable}` | {s.show(s.default)} | {s.text.rstrip('.')} |"
        for s in SETTINGS
    ]
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The README with the table between its marks. Raises ValueError without the marks."""
    begin = text.index(BEGIN) + len(BEGIN)
    return text[:begin] + table() + text[text.index(END, begin) :]


def main() -> int:
    text = README.read_text()
    wanted = with_table(text)
    if "--check" in sys.argv[1:]:
        return int(wanted != text)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
