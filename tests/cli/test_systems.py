"""`bikeflow systems`: one system or a thousand, with the service running or stopped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from tests.support.gbfs import HARBOUR, HILL
from tests.support.gbfsserver import serve_gbfs
from tests.support.service import configure, running

pytestmark = pytest.mark.timeout(180)
SNAPSHOTS = "SELECT count(DISTINCT system_id) FROM analytics.history"


def shown(config: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["systems", "--config", str(config), *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def listed(config: Path, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(shown(config, "--json", *arguments))
    return rows


async def test_each_system_with_its_state_while_the_service_runs_and_when_it_is_stopped(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    async with serve_gbfs(HARBOUR) as harbour, serve_gbfs(HILL) as hill:
        gone = {"id": "gone", "format": "gbfs", "url": f"{hill.root}/nothing/here.json"}
        systems = [
            {"id": "harbour", "name": "Harbour", "format": "gbfs", "url": harbour.url},
            gone,
            {"id": "hill", "format": "gbfs", "url": hill.url, "interval_seconds": 2},
        ]
        async with running(tmp_path / "data", "", config=config, settings={"systems": systems}) as service:
            await service.sees(SNAPSHOTS, 2)
            await service.logged("event=feed_unreachable")
            rows = {row["id"]: row for row in await asyncio.to_thread(listed, config)}
            assert list(rows) == ["harbour", "gone", "hill"]
            assert {name: row["state"] for name, row in rows.items()} == {
                "harbour": "working", "gone": "failing", "hill": "working",
            }  # fmt: skip
            assert "404" in rows["gone"]["reason"] and rows["gone"]["last_snapshot"] is None
            found = [rows["harbour"][name] for name in ("name", "format", "stations", "vehicles", "interval_seconds")]
            assert found == ["Harbour", "gbfs", 4, 4, 1]
            assert (rows["hill"]["rows_today"], rows["hill"]["snapshots_today"]) == (3, 1)
            worst = await asyncio.to_thread(listed, config, "--worst")
            assert [row["id"] for row in worst] == ["gone", "harbour", "hill"]
            text = await asyncio.to_thread(shown, config)
            assert text.splitlines()[0] == "3 systems: 1 failing and 2 working."
            async with aiohttp.ClientSession(await service.url()) as session:
                async with session.get("/api/v1/systems") as answer:
                    assert [row["id"] for row in (await answer.json())["systems"]] == ["gone", "harbour", "hill"]
                async with session.get("/api/v1/status") as answer:
                    status = await answer.json()
            assert list(status["systems"]) == ["gone", "harbour", "hill"]
            assert status["systems_counted"] == {"failing": 1, "working": 2}
            assert await service.stop() == 0
    rows = {row["id"]: row for row in listed(config)}
    assert (rows["gone"]["state"], rows["gone"]["last_fetch"], rows["harbour"]["stations"]) == ("empty", None, 4)


def test_a_thousand_systems_are_a_summary_and_the_worst_of_them(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    systems = [{"id": f"s{number}", "format": "gbfs", "url": "http://127.0.0.1:9/gbfs.json"} for number in range(1000)]
    configure(config, {"data_dir": tmp_path / "data", "systems": systems})
    lines = shown(config).splitlines()
    assert lines[0] == "1,000 systems: 1,000 empty." and len(lines) == 44
    assert lines[-1] == "and 960 more; --limit 0 shows all"
    assert len(shown(config, "--limit", "0").splitlines()) == 1003 and len(listed(config)) == 1000


def test_one_system(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    configure(config, {"data_dir": tmp_path / "data"})
    assert shown(config).splitlines() == [
        "1 system: 1 empty.",
        "",
        "id   format  every  last snapshot  stations  vehicles  rows today  state",
        "wrm  wrm     60 s   none yet                                    0  empty",
    ]
