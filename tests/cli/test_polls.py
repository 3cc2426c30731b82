"""`bikeflow polls`: the newest polls of a system."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from bikeflow.cli.app import app
from tests.warehouse.test_coverage import Poller, poller

__all__ = ["poller"]


async def test_the_newest_polls_come_first_and_bad_ones_alone_on_demand(poller: Poller, tmp_path: Path) -> None:
    for outcome, reason in (("stored", ""), ("failed", "timeout"), ("duplicate", "")):
        await poller.poll(outcome, reason=reason)  # type: ignore[arg-type]
    await poller.matches()

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["polls", *arguments, "--data-dir", str(tmp_path)])
        assert result.exit_code == 0, result.exception
        return result.stdout

    polls = json.loads(told("--json"))
    assert [poll["outcome"] for poll in polls] == ["unchanged", "failed", "stored"]
    assert polls[0]["due_at"] > polls[1]["due_at"]
    assert "timeout" in told("--bad")
    assert "stored" not in told("--bad") and "failed" not in told("--last", "1")
