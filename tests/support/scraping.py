"""A scrape as Prometheus makes it: over HTTP, parsed by its own rules."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

WAIT_SECS = 30.0


class Scraped:
    """The samples of one answer, by name and value of the only label (empty without one)."""

    def __init__(self, text: str) -> None:
        self.families = {family.name for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, "".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __getitem__(self, name: str) -> float:
        """Of a metric of the server, without its `hermes_`."""
        return self.samples[f"hermes_{name}", ""]

    def of(self, name: str) -> dict[str, float]:
        """By label."""
        return {
            label: value
            for (full, label), value in self.samples.items()
            if full == f"hermes_{name}"
        }


async def scrape(address: str) -> Scraped:
    """Raises urllib.error.HTTPError for a status that is none of success."""

    def ask() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_SECS) as answer:
            text: str = answer.read().decode()
            return text

    return Scraped(await asyncio.to_thread(ask))


async def scraped_until(address: str, condition: Callable[[Scraped], bool]) -> Scraped:
    """The first scrape that is so: what is scraped tells of no change by itself."""
    async with asyncio.timeout(WAIT_SECS):
        while not condition(found := await scrape(address)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found
