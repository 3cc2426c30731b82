"""The pages in a real browser: old and fresh data, a phone, a failure, the mouse, the keyboard and a screen reader."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bikeflow.model import UTC, PartitionJob
from bikeflow.settings.sections import MapSettings
from bikeflow.surfaces.pages import map_file
from tests.support.browser import Tab, browsing
from tests.support.lines import raw_file, station
from tests.support.real import REAL, SNAPSHOTS
from tests.surfaces.conftest import NOON, Scene

LONG_NAME = "Plac " + "Konstantynopolitańczykowianeczki" * 4
PHONE = {"width": 360, "height": 740}
SIDEWAYS = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
CLIPPED = """[...document.querySelectorAll("main *")].filter((element) => element.scrollWidth > element.clientWidth + 1
    && element.clientWidth && !element.closest(".unseen, .scroll, #map, svg")
    && getComputedStyle(element).overflowX !== "visible").map((element) => element.textContent)"""

KNOWN = {"": "status.city", "map": "city"}
TELL = {"": "(showAges(), announce())", "map": "tellFreshness()"}


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with browsing(tmp_path / "profile") as tab:
        yield tab


async def real_data(scene: Scene) -> None:
    """The four real snapshots of May 2025 are in the lake, processed and published."""
    for file in SNAPSHOTS:
        key = f"{scene.pipeline.layout.prefix}raw/{file.relative_to(REAL).as_posix()}"
        await scene.pipeline.store.put(key, file.read_bytes())
    await scene.pipeline.reconciler.reconcile()
    for day in (dt.date(2025, 5, 12), dt.date(2025, 5, 31)):
        await scene.pipeline.processors[0].process(PartitionJob(day))
    await scene.pipeline.refresher.refresh_once()


async def recent_data(scene: Scene, *minutes_ago: float) -> None:
    """One snapshot that many minutes ago, for each."""
    for number, minutes in enumerate(minutes_ago):
        at = dt.datetime.now(UTC).replace(microsecond=0) - dt.timedelta(minutes=minutes)
        await scene.arrives(raw_file(station(1, bikes=str(number + 1))), at)


async def opened(tab: Tab, scene: Scene, page: str = "", width: int = 1280, height: int = 900) -> None:
    """The page is loaded, and shows what it asked for."""
    await tab.open(f"{scene.client.url}/{page}", width, height)
    asked = "city" if page else "status"
    await tab.until(f"typeof {asked} === 'object' && {asked}")


def says_now(text: str) -> bool:
    return re.search(r"\bnow\b", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("page", ["", "map"])
async def test_old_data_is_not_called_now_but_by_its_date_and_looks_different(
    tab: Tab, scene: Scene, page: str
) -> None:
    await real_data(scene)
    await opened(tab, scene, page, **PHONE)
    text = await tab.text("body")
    assert not says_now(text)
    assert re.search(r"Old data\. .*as of 31 May 2025, 13:50 UTC\D+\d+\sdays ago", text, re.IGNORECASE)
    assert await tab.run("document.body.classList.contains('old')")
    assert await tab.run(CLIPPED) == [] and tab.complaints == []


@pytest.mark.parametrize("page", ["", "map"])
async def test_fresh_data_is_called_now_until_it_is_old(tab: Tab, scene: Scene, page: str) -> None:
    await recent_data(scene, 1)
    await opened(tab, scene, page)
    assert says_now(await tab.text("main")) and "Old data" not in await tab.text("body")
    await recent_data(scene, 0.5)
    # three minutes later, had no other snapshot come; in one go, so that no update comes between
    old = (
        f"({KNOWN[page]}.known_at = new Date(Date.now() - 190000).toISOString(), {TELL[page]}, document.body.innerText)"
    )
    text = await tab.run(old)
    assert not says_now(text) and "Old data" in text
    await tab.run("refresh()")
    assert says_now(await tab.text("main")) and "Old data" not in await tab.text("body")


async def test_a_map_in_a_file_grows_old_like_any_other(tab: Tab, scene: Scene, tmp_path: Path) -> None:
    await real_data(scene)
    file = tmp_path / "map.html"
    file.write_text(map_file(MapSettings(), (await scene.client.ask("/api/v1/map")).text.encode()))
    await tab.open(file.as_uri())
    text = await tab.text("body")
    assert not says_now(text) and "As of 31 May 2025, 13:50 UTC" in text


async def test_headline_numbers_count_the_service_area_and_say_how_many_are_not_in_it(tab: Tab, scene: Scene) -> None:
    await real_data(scene)
    city = (await scene.client.ask("/api/v1/status")).json["city"]
    assert (city["stations"], city["empty_stations"], city["full_stations"]) == (235, 17, 43)
    assert (city["bikes_at_stations"], city["free_bikes"]) == (1193, 128)
    assert (city["stations_outside"], city["free_bikes_outside"]) == (0, 385)
    await opened(tab, scene)
    assert "128 free bikes. All in the service area; not counted: 385 free bikes outside it." in await tab.text("main")
    await opened(tab, scene, "map")
    assert "235 stations and 128 free bikes in the service area; 385 free bikes outside it" in await tab.text("#sums")
    assert (await tab.text("#count-stations"), await tab.text("#count-bikes")) == ("1,193 bikes", "128")


async def test_the_fullest_stations_go_by_share_and_are_called_full(tab: Tab, scene: Scene) -> None:
    await real_data(scene)
    await opened(tab, scene)
    places = re.split(r"\n(?=\D)", await tab.text("#fullest"))
    assert [re.sub(r"\s+", " ", place) for place in places[:3]] == [
        "Mrągowska / Rolna 32 of 6, full",
        "Waniliowa / Cynamonowa 24 of 6, full",
        "Sołtysowicka / Redycka 15 of 4, full",
    ]
    await opened(tab, scene, "map")
    full = "stationTip(city.stations.find((station) => station.name === 'Mrągowska / Rolna')).innerText"
    assert "32 bikes; 1 space, 6 docks; full" in await tab.run(full)
    ringed = "city.stations.filter((station) => stationStyle(station, 9).color === colour('full')).length"
    assert await tab.run(ringed) == 43


async def test_a_feed_whose_own_clock_goes_back_is_shown_all_the_same(tab: Tab, scene: Scene) -> None:
    await scene.arrives(raw_file(station(1, packed="1748779200|0|0")), NOON)
    await scene.arrives(raw_file(station(1, packed="1748775600|0|0")), NOON + dt.timedelta(minutes=10))
    await opened(tab, scene)
    text = await tab.text("main")
    assert "No snapshot yet" not in text and "5 bikes at 1 station" in text


async def test_without_stations_in_the_area_the_page_does_not_say_that_there_is_no_snapshot(
    tab: Tab, scene: Scene
) -> None:
    await scene.arrives(raw_file(station(1, lat="52.2")))
    await opened(tab, scene)
    text = await tab.text("main")
    assert "no station in the service area" in text and "No snapshot yet" not in text


async def test_on_a_phone_nothing_is_clipped_and_the_page_does_not_scroll_sideways(tab: Tab, scene: Scene) -> None:
    lines = [station(n, name=LONG_NAME, bikes="123456", total_docks="123456") for n in range(3)]
    await scene.arrives(raw_file(*lines, "broken"), NOON)
    await scene.arrives(raw_file(*lines, "broken"), NOON + dt.timedelta(minutes=30))
    await scene.pipeline.fetcher.fetch_once()
    for page in ("", "map"):
        for width in (320, 360, 390):
            await opened(tab, scene, page, width, 740)
            assert await tab.run(SIDEWAYS) <= 0, (page, width)
            assert await tab.run(CLIPPED) == [], (page, width)
    await opened(tab, scene, "", **PHONE)
    assert LONG_NAME in await tab.text("#fullest")


async def test_the_headline_of_a_failure_is_for_people_and_the_error_is_folded(tab: Tab, scene: Scene) -> None:
    await recent_data(scene, 1)
    await scene.pipeline.fetcher.fetch_once()
    await opened(tab, scene)
    headline = await tab.text("h1")
    assert headline.startswith("Not working for ") and ": no new snapshots come in; " in headline
    assert "connect" not in headline and "127.0.0.1" not in await tab.text("main")
    await tab.run("document.querySelector('#parts summary').click()")
    assert "cannot connect to 127.0.0.1:9" in await tab.text("#parts")
    await tab.run("refresh()")
    assert "cannot connect to 127.0.0.1:9" in await tab.text("#parts")


async def test_hovering_over_the_chart_survives_the_next_update(tab: Tab, scene: Scene) -> None:
    await recent_data(scene, 61, 31, 1)
    await opened(tab, scene)
    box = await tab.run(
        "(({ x, y, width }) => ({ x, y, width }))(document.querySelector('#chart').getBoundingClientRect())"
    )
    await tab.point(box["x"] + box["width"] - 14, box["y"] + 60)
    await tab.until("document.querySelector('#chart .label')")
    before = await tab.run("document.querySelector('#chart .label').textContent")
    await tab.run("refresh()")
    assert await tab.run("document.querySelector('#chart .label').textContent") == before
    await tab.point(2, 2)
    await tab.until("!document.querySelector('#chart .label')")


async def test_counts_that_no_city_has_do_not_hang_the_chart(tab: Tab, scene: Scene) -> None:
    for minutes in (31, 1):
        at = dt.datetime.now(UTC).replace(microsecond=0) - dt.timedelta(minutes=minutes)
        await scene.arrives(raw_file(station(1, bikes=str(2**63 - 1))), at)
    await opened(tab, scene)
    assert 2 <= await tab.run("document.querySelectorAll('#chart .rule').length") <= 10
    assert "NaN" not in await tab.run("document.querySelector('#chart').innerHTML")


async def test_the_chart_can_be_read_with_the_keyboard(tab: Tab, scene: Scene) -> None:
    await recent_data(scene, 61, 31, 1)
    await opened(tab, scene)
    await tab.run("document.querySelector('#chart').focus()")
    for bikes in (2, 1, 1):
        await tab.press("ArrowLeft")
        assert (await tab.run("document.activeElement.getAttribute('aria-valuetext')")).startswith(f"{bikes} at ")
    await tab.run("refresh()")
    assert await tab.run("document.activeElement.id") == "chart"


@pytest.mark.parametrize("page", ["", "map"])
async def test_screen_readers_hear_of_changes_only(tab: Tab, scene: Scene, page: str) -> None:
    await recent_data(scene, 1)
    await opened(tab, scene, page)
    await tab.run("""
        window.heard = [];
        for (const live of document.querySelectorAll("[aria-live], [role=status], [role=alert]")) {
          new MutationObserver((changes) => heard.push(...changes.map((change) => change.target.textContent)))
            .observe(live, { subtree: true, childList: true, characterData: true });
        }
    """)
    for _ in range(2):
        await tab.run("new Promise((done) => setTimeout(done, 1100)).then(refresh)")
    assert await tab.run("heard") == []
    await tab.run(f"({KNOWN[page]}.known_at = '2025-05-31T13:50:05Z', {TELL[page]}, Promise.resolve())")
    assert "old" in (await tab.run("heard[0]")).lower()


async def test_all_of_the_map_is_in_a_landmark_and_its_links_are_underlined(tab: Tab, scene: Scene) -> None:
    await real_data(scene)
    await opened(tab, scene, "map")
    outside = "[...document.body.children].filter((child) => child.offsetHeight && child.tagName !== 'MAIN').length"
    assert await tab.run(outside) == 0
    link = "getComputedStyle(document.querySelector('.leaflet-control-attribution a')).textDecorationLine"
    assert await tab.run(link) == "underline"


@pytest.mark.parametrize("page", ["", "map"])
async def test_a_service_that_does_not_answer_is_told_and_so_is_that_it_does_again(
    tab: Tab, scene: Scene, page: str
) -> None:
    await recent_data(scene, 1)
    await opened(tab, scene, page)
    before = await tab.text("#sums" if page else "#state")
    limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await tab.send("Network.enable")
    await tab.send("Network.emulateNetworkConditions", offline=True, **limits)
    await tab.run("refresh()")
    text = await tab.text("body")
    assert re.search("no answer|does not answer", text, re.IGNORECASE) and not says_now(text)
    await tab.send("Network.emulateNetworkConditions", offline=False, **limits)
    await tab.run("refresh()")
    assert not re.search("no answer|does not answer", await tab.text("body"), re.IGNORECASE)
    assert await tab.text("#sums" if page else "#state") == before
