"""Take the screenshots of docs/inspect.md: the real screen, on stores of a real broker.

    python tools/inspect_screenshots.py [OUT]

Runs examples/packages.py with few packages, and the scene that the tests inspect, and
writes SVG files into docs/images. No test compares them: times and ports differ each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from broker_process import BrokerProcess  # noqa: E402 - the path comes first

import hermes  # noqa: E402
from hermes_inspect.filters import parse  # noqa: E402
from hermes_inspect.store import open_store  # noqa: E402
from hermes_inspect.times import Clockface  # noqa: E402
from hermes_inspect.tui.app import InspectApp  # noqa: E402
from tests.support.inspect_scene import fill  # noqa: E402

SIZE = (100, 28)
PACKAGES = 300
# Long enough for every worker to have read what is seen.
SETTLE_SECONDS = 1.0
_WEB_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def shoot(store: Path, out: Path, *keys: str, line: str = "") -> None:
    """Open a store under a filter, press keys, and write what is seen."""
    svg = asyncio.run(_shoot(store, keys, line))
    svg = _WEB_FONT.sub("", svg)  # a page of documentation loads nothing from elsewhere
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(text.rstrip() for text in svg.splitlines()) + "\n")


async def _shoot(store: Path, keys: Sequence[str], line: str) -> str:
    with open_store(store) as opened:
        app = InspectApp(opened, parse(line, now_ns=0), Clockface())
        async with app.run_test(size=SIZE, notifications=True) as pilot:
            await pilot.pause(SETTLE_SECONDS)
            for key in keys:
                await pilot.press(key)
            await pilot.pause(SETTLE_SECONDS)
            return app.export_screenshot(title="hermes-inspect log")


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    out = out.resolve()
    # From inside, so that the path which the screen shows is short.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        packages = Path("packages")
        command = [sys.executable, str(ROOT / "examples" / "packages.py"), "--store", str(packages)]
        subprocess.run([*command, "--limit", str(PACKAGES)], check=True)
        keys = ["pageup"] * 3 + ["up"] * 7
        shoot(packages, out / "inspect-log.svg", *keys, line="kind:publishes")
        shoot(packages, out / "inspect-filter.svg", "slash", *"kind", "colon", *"nacke")
        scene = Path("scene")
        with BrokerProcess(scene, Path("broker.log")) as broker:
            fill(broker.addr)
            with (
                hermes.Client(broker.addr, name="late-worker") as client,
                client.consume("slow", "orders.>", max_in_flight=1) as member,
            ):
                member.fetch(1, timeout=20)
                shoot(scene, out / "inspect-consumers.svg", "2", "down", "down", "down")
            shoot(scene, out / "inspect-custody.svg", "enter", line="lsn:4")


if __name__ == "__main__":
    main()
