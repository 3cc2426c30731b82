"""The service's life under a real systemd, from `make install` to `make uninstall`: one walk, step by step in order.

The feed is the oracle's: at the end every snapshot that the service has promised must be there, once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.oracle import Oracle, local_lake, serving
from tests.systemd.box import TOOL, UNIT, Box

pytestmark = [
    pytest.mark.skipif(not TOOL, reason="takes root and a systemd of its own: .ci/systemd starts one"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
]
CANARY = "canary-9f86d081884c7d65"
CONFIG = "/etc/bikeflow/config.toml"
STATE = "/var/lib/bikeflow"
QUIET_PIP = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
DROP_IN = ("WatchdogSec=15", "RestartSec=200ms")
"""Shorter waits than the shipped unit's; a busy machine may well keep a process waiting for some seconds."""


@pytest.fixture(scope="module")
def box() -> Box:
    return Box()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def oracle() -> AsyncIterator[Oracle]:
    async with serving() as oracle:
        yield oracle


def configure(box: Box, oracle: Oracle, *more: str) -> None:
    lines = ["[feed]", f'url = "{oracle.url}"', "interval_seconds = 1", "[http]", 'listen = "127.0.0.1:0"', *more, ""]
    box.path(CONFIG).write_text("\n".join(lines))


async def works(box: Box) -> None:
    await box.until_shows("StatusText", lambda text: text.startswith("All works: "))


async def stored_after(box: Box, count: int) -> int:
    """Wait for more stored snapshots than `count`; returns how many the journal tells of."""
    for _ in range(300):
        found = len(await box.entries("EVENT=fetched", "OUTCOME=stored"))
        if found > count:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"no new snapshot\n{await box.journal()}")


async def restarted(box: Box, times: str) -> None:
    """Wait until systemd has restarted the service once more than `times`, and it works."""
    await box.until_shows("NRestarts", lambda now: int(now) > int(times))
    await works(box)


async def process(box: Box) -> int:
    return int(await box.shows("MainPID"))


async def test_install_makes_a_unit_that_systemd_finds_nothing_wrong_with(box: Box) -> None:
    said = await box.does("make", "install", cwd="/src", environ=QUIET_PIP)
    assert "systemctl start bikeflow" in said
    unit = f"/etc/systemd/system/{UNIT}"
    finished = await box.run("systemd-analyze", "verify", unit)
    assert (finished.code, finished.stdout, finished.stderr) == (0, "", "")
    await box.does("systemd-analyze", "security", "--offline=yes", "--threshold=15", unit)
    assert await box.shows("UnitFileState") == "enabled"
    assert await box.shows("ActiveState") == "inactive"


async def test_a_wrong_configuration_fails_the_start_with_its_reason_and_is_not_tried_again(
    box: Box, oracle: Oracle
) -> None:
    configure(box, oracle, "[watcher]", "poll_second = 5")
    assert (await box.run("systemctl", "start", UNIT)).code != 0
    await box.until_shows("ActiveState", lambda state: state == "failed")
    assert (await box.shows("ExecMainStatus"), await box.shows("NRestarts")) == ("2", "0")
    reason = await box.journal("--priority=err")
    assert f"error: {CONFIG}:7: unknown key" in reason
    assert "watcher.poll_seconds" in reason


async def test_it_is_active_only_when_it_is_ready(box: Box, oracle: Oracle) -> None:
    configure(box, oracle)
    box.adjust(*DROP_IN)
    await box.does("systemctl", "daemon-reload")
    starting = asyncio.create_task(box.does("systemctl", "start", UNIT))
    states = []
    while not starting.done():
        states.append(await box.shows("ActiveState"))
    await starting
    assert "activating" in states
    # When it was sent: the journal may read it later.
    started = int((await box.entries("EVENT=started"))[-1]["_SOURCE_REALTIME_TIMESTAMP"])
    shown = await box.does("systemctl", "show", UNIT, "--value", "-p", "ActiveEnterTimestamp", "--timestamp=us+utc")
    active = dt.datetime.strptime(shown.strip(), "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=dt.UTC)
    assert active > dt.datetime.fromtimestamp(started / 1e6, dt.UTC)


async def test_the_status_is_one_sentence(box: Box) -> None:
    sentence = re.compile(
        r"All works: the last fetch was \d+ s ago \(stored\), the newest snapshot is \d+ s old, "
        r"\d+ rows are published, nothing waits, \d+ lines? rejected since the start, the storage works\."
    )
    await box.until_shows("StatusText", lambda text: sentence.fullmatch(text) is not None)
    assert re.search(r'^ *Status: "All works: ', await box.does("systemctl", "status", UNIT), re.MULTILINE)
    assert "All works: " in await box.does("bikeflow", "status")


async def test_the_journal_has_priorities_and_finds_a_snapshot_all_the_way(box: Box) -> None:
    fetched = (await box.entries("EVENT=fetched", "OUTCOME=stored"))[0]
    way = await box.entries(f"TRACE_ID={fetched['TRACE_ID']}")
    assert {entry["EVENT"] for entry in way} >= {"fetched", "processed", "refreshed"}
    assert {entry["PRIORITY"] for entry in way} == {"6"}
    assert all(entry["PARTITION"] for entry in way if entry["EVENT"] == "processed")
    assert fetched["MESSAGE"].startswith("level=info event=fetched outcome=stored ")
    assert not [entry for entry in await box.entries() if int(entry["PRIORITY"]) < 4 and "EVENT" in entry]


async def test_credentials_arrive_and_show_nowhere(box: Box) -> None:
    for name, content in (("s3_access_key_id", CANARY), ("alert_urls", f"json://127.0.0.1:9/{CANARY}")):
        secret = box.path(f"/etc/credstore/bikeflow.{name}")
        secret.touch(mode=0o600)
        secret.write_text(content)
    await box.does("systemctl", "restart", UNIT)
    note = (await box.entries("EVENT=setting_without_effect"))[-1]["NOTE"]
    assert note.startswith("credential s3_access_key_id: not used")
    shown = await box.does("bikeflow", "check-config")
    assert re.search(r"^access_key_id = \(set\) +# credential s3_access_key_id$", shown, re.MULTILINE)
    assert re.search(r"^urls = \(set\) +# credential alert_urls$", shown, re.MULTILINE)
    tested = await box.run("bikeflow", "alerts", "test")
    assert (tested.code, "1 (json): " in tested.stdout) == (1, True)
    shown += (
        tested.stdout
        + tested.stderr
        + await box.does("systemctl", "show", UNIT)
        + await box.does("systemctl", "status", UNIT)
    )
    arguments = await box.does("ps", "axeww")
    assert CANARY not in shown + arguments + await box.does("journalctl", "--no-pager", "-o", "json", "--all")


async def test_after_a_kill_it_is_there_again(box: Box) -> None:
    await works(box)
    before, stored = await process(box), len(await box.entries("EVENT=fetched", "OUTCOME=stored"))
    times = await box.shows("NRestarts")
    await box.does("systemctl", "kill", "--signal=SIGKILL", UNIT)
    await restarted(box, times)
    assert await process(box) != before
    await stored_after(box, stored)


async def test_a_stuck_process_is_restarted_by_the_watchdog(box: Box) -> None:
    before, stored = await process(box), len(await box.entries("EVENT=fetched", "OUTCOME=stored"))
    times = await box.shows("NRestarts")
    await box.does("kill", "-STOP", str(before))
    await restarted(box, times)
    assert await process(box) != before
    assert "Watchdog timeout" in await box.journal()
    await stored_after(box, stored)


async def test_a_reload_takes_over_a_good_configuration_and_refuses_a_bad_one(box: Box, oracle: Oracle) -> None:
    before = await process(box)
    configure(box, oracle, "[watcher]", "poll_seconds = 2")
    await box.does("systemctl", "reload", UNIT)
    assert "watcher.poll_seconds: 5 -> 2" in (await box.entries("EVENT=reloaded"))[-1]["CHANGED"]
    configure(box, oracle, "[watcher]", "poll_seconds = 0")
    assert (await box.run("systemctl", "reload", UNIT)).code != 0
    assert f"{CONFIG}:7: watcher.poll_seconds" in await box.journal()
    configure(box, oracle)
    await box.does("systemctl", "reload", UNIT)
    await works(box)
    assert (await process(box), await box.shows("ActiveState")) == (before, "active")


async def test_a_stop_ends_in_order_and_within_its_deadline(box: Box) -> None:
    await box.does("systemctl", "stop", UNIT)
    assert (await box.shows("ActiveState"), await box.shows("Result")) == ("inactive", "success")
    assert (await box.shows("ExecMainCode"), await box.shows("ExecMainStatus")) == ("1", "0")
    assert (await box.entries())[-1]["EVENT"] == "stopped"
    await box.does("systemctl", "start", UNIT)


async def test_an_upgrade_with_a_wrong_configuration_leaves_the_service_alone(box: Box, oracle: Oracle) -> None:
    before, releases = await process(box), sorted(box.path("/opt/bikeflow/releases").iterdir())
    configure(box, oracle, "[feed]")
    finished = await box.run("make", "install", cwd="/src", environ=QUIET_PIP)
    configure(box, oracle)
    assert finished.code != 0
    assert f"{CONFIG}:6" in finished.stderr
    assert sorted(box.path("/opt/bikeflow/releases").iterdir()) == releases
    assert await process(box) == before


async def test_an_upgrade_that_does_not_get_ready_goes_back_by_itself(box: Box) -> None:
    await works(box)
    current, before = box.path("/opt/bikeflow/current").readlink(), await process(box)
    broken = "/var/tmp/broken"
    await box.does("mkdir", broken)
    await box.does(
        "sh", "-c", f"cd /src && cp -R .ci systemd bikeflow Makefile pyproject.toml *.md *.toml LICENSE {broken}"
    )
    role = box.path(f"{broken}/bikeflow/ingest/fetcher.py")
    begin = "    async def _poll(self, stop: asyncio.Event) -> None:\n"
    whole = role.read_text()
    assert begin in whole
    role.write_text(whole.replace(begin, f"{begin}        await tick(stop, 3600)\n"))
    finished = await box.run("make", "install", cwd=broken, environ={**QUIET_PIP, "READY_SECONDS": "5"})
    assert finished.code != 0
    assert "did not get ready within 5 s; the one before runs again" in finished.stderr
    assert "no fetch has ended since" in finished.stderr or "the first fetch has not ended yet" in finished.stderr
    assert box.path("/opt/bikeflow/current").readlink() == current
    assert await process(box) != before
    await works(box)


async def test_an_upgrade_keeps_configuration_and_state_and_can_be_rolled_back(box: Box) -> None:
    await works(box)
    old, kept = box.path("/opt/bikeflow/current").readlink(), box.path(CONFIG).read_text()
    stored = len(await box.entries("EVENT=fetched", "OUTCOME=stored"))
    assert "Upgraded, and ready" in await box.does("make", "install", cwd="/src", environ=QUIET_PIP)
    assert box.path("/opt/bikeflow/current").readlink() != old
    assert box.path("/opt/bikeflow/previous").readlink() == old
    assert box.path(CONFIG).read_text() == kept
    await stored_after(box, stored)
    await box.does("make", "rollback", cwd="/src")
    assert box.path("/opt/bikeflow/current").readlink() == old
    await works(box)


async def test_through_all_of_it_nothing_was_lost_and_nothing_is_there_twice(box: Box, oracle: Oracle) -> None:
    assert "proved: nothing lost, nothing twice" in await box.does("bikeflow", "verify")
    await box.does("systemctl", "stop", UNIT)
    verdict = oracle.audit(local_lake(box.path(STATE)), None, await box.journal())
    verdict.assert_exactly_once()
    assert verdict.stored > 10
    # The database names its files by their paths in the box, and so is asked there.
    counts = "SELECT count(*), count(DISTINCT (s3_source_key, station_id)) FROM wrm_stations_enhanced_data"
    published = await box.does("bikeflow", "query", "--format", "csv", counts, cwd="/root")
    assert published.splitlines()[1] == f"{verdict.expected},{verdict.expected}"


async def test_uninstall_leaves_what_is_the_operators_and_purge_leaves_nothing(box: Box) -> None:
    await box.does("make", "uninstall", cwd="/src")
    assert (await box.run("systemctl", "cat", UNIT)).code != 0
    assert not box.path("/opt/bikeflow").exists()
    assert box.path(CONFIG).exists()
    assert box.path(f"{STATE}/analytics.duckdb").exists()
    await box.does("make", "uninstall", "PURGE=1", cwd="/src")
    for path in ("/etc/bikeflow", STATE, "/etc/credstore/bikeflow.s3_access_key_id", "/usr/local/bin/bikeflow"):
        assert not box.path(path).exists()
