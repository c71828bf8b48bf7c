"""The screen of `hermes-inspect log`, by its keys, on stores of a real broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from broker_process import BrokerProcess
from textual.pilot import Pilot
from textual.widgets import DataTable

import hermes
from hermes_inspect.filters import EVERYTHING, Filter, parse
from hermes_inspect.query import Records
from hermes_inspect.store import open_store
from hermes_inspect.times import Clockface
from hermes_inspect.tui.app import InspectApp
from hermes_inspect.tui.overlays import ChooseScreen, HelpScreen, TimelineScreen
from hermes_inspect.tui.source import Source
from hermes_inspect.tui.window import ROWS_MAX, Need, Part

WAIT_SECS = 20.0
NARROW = (80, 24)
WIDE = (160, 50)


class Screen:
    """An application under test: what is on it, and its keys."""

    def __init__(self, app: InspectApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def lines(self) -> list[str]:
        """What is seen, top to bottom."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        names = {":": "colon", ".": "full_stop", ">": "greater_than_sign", " ": "space"}
        await self.press(*(names.get(letter, letter) for letter in text))

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something holds; fails with what is on the screen."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECS
        while not true():
            assert asyncio.get_running_loop().time() < deadline, self.text
            await self.pilot.pause(0.01)

    async def sees(self, *texts: str) -> None:
        await self.until(lambda: all(text in self.text for text in texts))

    @property
    def chosen(self) -> int:
        """lsn of the selected record."""
        row = self.app.main.log_pane.window.selected
        return 0 if row is None else row.lsn

    @property
    def newest(self) -> str:
        """What the screen says when the newest of all records is selected."""
        last = self.app.main.log_pane.window.end - 1
        return f"{last} of {last}"

    @property
    def settled(self) -> bool:
        return self.app.main.log_pane.window.settled


@asynccontextmanager
async def screen(
    store: Path, *, wanted: Filter = EVERYTHING, size: tuple[int, int] = NARROW
) -> AsyncIterator[Screen]:
    """The screen of a store, with its rows read."""
    with open_store(store) as opened:
        app = InspectApp(opened, wanted, Clockface())
        async with app.run_test(size=size, notifications=True) as pilot:
            shown = Screen(app, pilot)
            await shown.until(lambda: shown.settled and (shown.chosen > 0 or shown.app.damaged))
            await shown.until(lambda: " lsn " in shown.text)
            yield shown


def filtered(line: str) -> Filter:
    return parse(line, now_ns=0)


# --------------------------------------------------------------------------- at rest


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_it_opens_at_the_newest_record_and_tells_it(
    scene: Path, size: tuple[int, int]
) -> None:
    async with screen(scene, size=size) as shown:
        await shown.sees("● following", "all records", shown.newest, "rec/s", "server stopped  lsn")
        assert len(shown.lines) == size[1]
        assert all(len(line) <= size[0] for line in shown.lines)
        last = [line for line in shown.lines if line.startswith("›")]
        assert len(last) == 1 and "server stopped" in last[0]
        # Only where there is room for it, each line has the date.
        assert (last[0].count("-") == 2) == (size == WIDE)


async def test_kinds_have_colours_and_the_selection_a_sign(scene: Path) -> None:
    async with screen(scene, wanted=filtered("kind:acked,nacked")) as shown:
        colours = {}
        for strip in shown.app.screen._compositor.render_strips():
            for segment in strip:
                colours[segment.text.strip()] = segment.style and segment.style.color
        assert str(colours["acked"]) != str(colours["nacked"]) != "None"


async def test_without_colour_nothing_is_lost(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(scene) as shown:
        coloured = shown.text
    monkeypatch.setenv("NO_COLOR", "1")
    async with screen(scene) as shown:
        assert shown.app.no_color
        assert shown.text.splitlines()[3:] == coloured.splitlines()[3:]


async def test_home_shows_the_first_record_and_end_follows(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("home")
        await shown.until(lambda: shown.chosen == 1)
        await shown.sees("‖ paused", "server started  lsn 1 ")
        await shown.press("down", "j")
        assert shown.chosen == 3
        await shown.press("up", "k", "k")
        assert shown.chosen == 1
        await shown.press("pagedown")
        assert shown.chosen > 10
        await shown.press("G")
        await shown.sees("● following", shown.newest)


async def test_a_filter_is_typed_in_place_and_shown(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("slash")
        await shown.sees("filter:", "consumer:", "Enter applies")
        await shown.type("kind:publishes subject:orders.>")
        await shown.press("enter")
        await shown.sees("● following  kind:publishes subject:orders.>", "lsn 5 ")
        rows = [line for line in shown.lines if " published  " in line and "orders." in line]
        assert len(rows) == 3
        await shown.press("escape")
        await shown.sees("all records", shown.newest)


async def test_a_bad_filter_says_what_is_wrong_in_place(scene: Path) -> None:
    async with screen(scene, wanted=filtered("consumer:billing")) as shown:
        await shown.press("slash")
        await shown.sees("filter: consumer:billing")
        await shown.type("kind:nope")
        await shown.sees("! no kind 'nope'; there are publishes")
        await shown.press("enter")
        await shown.sees("! no kind 'nope'")
        await shown.press(*["backspace"] * 4)
        await shown.type("session_opened")
        await shown.sees("! records of the kinds asked for have no consumer")
        await shown.press("escape")
        await shown.until(lambda: "filter:" not in shown.text)
        await shown.sees("following  consumer:billing")


async def test_a_filter_that_nothing_fits_says_so(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("slash")
        await shown.type("nosuchtext")
        await shown.press("enter")
        await shown.sees("text:nosuchtext", "no record fits the filter")
        await shown.press("up", "enter", "end", "home", "space", "p")
        await shown.sees("no record fits the filter")


async def test_the_payload_is_shown_as_text_json_and_hex(scene: Path) -> None:
    async with screen(scene, wanted=filtered("lsn:3")) as shown:
        await shown.sees("payload: auto", "region: eu", "order-1")
        await shown.press("p")
        await shown.sees("payload: text", '{"order": 7, "lines"')
        await shown.press("p", "p")
        await shown.sees("payload: hex", "00000000  7b 22 6f 72")
        before = shown.text
        await shown.press("right_square_bracket")
        await shown.until(lambda: shown.text != before)
        await shown.press("d")
        await shown.until(lambda: "payload:" not in shown.text)


async def test_what_a_client_sent_reaches_no_terminal(scene: Path) -> None:
    async with screen(scene, wanted=filtered("lsn:4")) as shown:
        await shown.sees("not json \\x1b[31mred")
        assert not any("\x1b" in line for line in shown.lines)


# --------------------------------------------------------------------------- custody


async def test_enter_opens_the_custody_of_the_message(scene: Path) -> None:
    async with screen(scene, wanted=filtered("kind:rejected")) as shown:
        await shown.press("enter")
        await shown.sees("custody of @2", "orders.us.created @2 id order-3", "billing rejected")
        assert isinstance(shown.app.screen, TimelineScreen)
        await shown.sees("“no such", "dead lettered", "audit   acked")
        await shown.press("r", "p", "p", "p", "G")
        await shown.sees("00000000  7b 7d")
        await shown.press("q")
        await shown.sees("kind:rejected", "rejected  lsn")


async def test_of_several_messages_one_is_chosen(scene: Path) -> None:
    async with screen(scene, wanted=filtered("lsn:6")) as shown:
        await shown.press("enter")
        await shown.sees("5 messages of record 6: which one?", "@3", "@7")
        assert isinstance(shown.app.screen, ChooseScreen)
        await shown.press("9", "enter")
        await shown.sees("! '9' is none of 3..7")
        await shown.press("backspace", "5", "enter")
        await shown.sees("custody of @5")
        await shown.press("escape", "enter")
        await shown.sees("which one?")
        await shown.press("down", "down", "up", "enter")
        await shown.sees("custody of @4")
        await shown.press("escape", "enter")
        await shown.sees("which one?")
        await shown.press("escape")
        await shown.sees("published  lsn 6")


async def test_a_live_message_has_its_custody_too(scene: Path) -> None:
    async with screen(scene, wanted=filtered("kind:delivered_live")) as shown:
        await shown.press("enter")
        await shown.sees("custody of @", "news.a id live-2", "watcher")


async def test_a_record_about_no_message_says_so(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("enter")
        await shown.sees("this record is about no message")


# ------------------------------------------------------------------------ other views


async def test_tab_shows_consumers_and_segments(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("tab")
        await shown.sees("2[consumers]", "4 consumers", "POSITION", "LAG", "WAITING", "DEAD")
        await shown.press("down", "down", "down")
        await shown.sees("slow  filter orders.>", "oldest unacked @0")
        await shown.press("tab")
        await shown.sees("3[segments]", "1 segment", "PINNED BY", "records 1..", "  active")
        await shown.press("tab")
        await shown.sees("1[log]", shown.newest)
        await shown.press("shift+tab")
        await shown.sees("3[segments]")
        await shown.press("enter")
        await shown.sees("1[log]", "lsn:1..")


async def test_enter_on_a_consumer_shows_its_records(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("2")
        await shown.sees("billing")
        await shown.press("j", "enter")
        await shown.sees("● following  consumer:billing", "billing member")
        await shown.press("2", "escape")
        await shown.sees("1[log]")


async def test_help_and_leaving(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("question_mark")
        await shown.sees("hermes-inspect log: help", "to the newest, and follow")
        assert isinstance(shown.app.screen, HelpScreen)
        await shown.press("escape")
        await shown.sees(shown.newest)
        await shown.press("q")
        await shown.until(lambda: not shown.app.is_running)
        assert not shown.app.damaged


async def test_the_table_keeps_its_row_while_it_is_read_anew(scene: Path) -> None:
    async with screen(scene) as shown:
        await shown.press("2")
        await shown.sees("sleepy")
        await shown.press("down", "down")
        table = shown.app.screen.query_one("#consumers DataTable", DataTable)
        await shown.sees("sleepy  filter orders.eu.>")
        await shown.pilot.resize_terminal(120, 30)
        await shown.until(lambda: table.cursor_row == 2)
        await shown.sees("sleepy  filter orders.eu.>")


# ----------------------------------------------------------------------------- damaged


async def test_a_damaged_store_is_shown_as_far_as_it_can_be_read(damaged: Path) -> None:
    async with screen(damaged) as shown:
        await shown.press("home")
        await shown.until(lambda: shown.chosen == 1)
        await shown.sees("DAMAGED: ")
        while "!!! record" not in shown.text:
            assert shown.chosen < shown.app.main.log_pane.window.end - 1
            await shown.press("pagedown")
            await shown.until(lambda: shown.settled)
        await shown.press("end")
        await shown.sees("following", "server stopped  lsn")
        await shown.press("tab")
        await shown.sees("2[consumers]", " !", "malformed")
        await shown.press("tab")
        await shown.sees("3[segments]", "1 segment")
        assert shown.app.damaged


# -------------------------------------------------------------------------------- live


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "store", tmp_path / "broker.log") as broker:
        yield broker


async def test_it_follows_a_live_log_and_can_be_paused(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with hermes.Client(broker.addr, name="shop") as client:
        client.publish("orders.new", b"0", id="first")
        async with screen(tmp_path / "store", wanted=filtered("kind:published")) as shown:
            await shown.sees("id first")
            client.publish("orders.new", b"1", id="second")
            await shown.sees("id second")
            await shown.press("space")
            await shown.sees("‖ paused")
            await shown.until(lambda: "‖" in {line[:1] for line in shown.lines})
            chosen = shown.chosen
            client.publish("orders.new", b"2", id="third")
            await shown.sees("‖ paused +1")
            await shown.pilot.pause(0.2)
            assert shown.chosen == chosen
            await shown.press("space")
            await shown.sees("● following", "id third")


async def test_it_pages_through_a_long_log_and_holds_little(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with hermes.Client(broker.addr) as client, client.publisher() as publisher:
        for n in range(2_500):
            publisher.send(f"a.{n}", b"x")
        publisher.flush(WAIT_SECS)
    store, wanted = tmp_path / "store", filtered("kind:published")
    async with screen(store, wanted=wanted, size=(160, 120)) as shown:
        window = shown.app.main.log_pane.window
        seen: set[int] = set()
        while not (window.at_start and window.cursor == 0):
            seen |= {row.lsn for row in window.visible}
            await shown.press("pageup")
            await shown.until(lambda: shown.settled)
            assert len(window.rows) <= ROWS_MAX
        seen |= {row.lsn for row in window.visible}
        assert seen == set(range(min(seen), max(seen) + 1))
        assert len(seen) == 2_500


async def test_a_slow_read_holds_no_key_up(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(scene) as shown:
        reading, go_on = threading.Event(), threading.Event()
        part = Source.part

        def slowly(source: Source, records: Records, need: Need, wanted: Filter) -> Part:
            reading.set()
            assert go_on.wait(WAIT_SECS)
            return part(source, records, need, wanted)

        monkeypatch.setattr(Source, "part", slowly)
        await shown.press("slash")
        await shown.type("kind:acked")
        await shown.press("enter")
        await shown.until(reading.is_set)
        await shown.sees("following  kind:acked", "searching …")
        await shown.press("question_mark")
        await shown.sees("hermes-inspect log: help")
        await shown.press("escape", "slash")
        await shown.sees("filter: kind:acked")
        await shown.press("escape")
        go_on.set()
        await shown.sees("acked  lsn")
