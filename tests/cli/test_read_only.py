"""Commands that only look create nothing, wherever they are pointed, and prove nothing of nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.core.errors import BikeflowError, ConfigError
from tests.support.real import REAL

COMMANDS = [
    ["verify"],
    ["verify", "--full", "--json"],
    ["status"],
    ["status", "--json"],
    ["query", "SELECT 1"],
    ["summary"],
    ["density"],
    ["polls"],
    ["catalog"],
    ["lineage"],
    ["dlq", "list"],
    ["dlq", "show"],
    ["check-config"],
]
NAMES = [" ".join(command) for command in COMMANDS]


def run(data_dir: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command, or its error; in this process, as starting one takes longer."""
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir)])
    if isinstance(result.exception, BikeflowError):
        return (2 if isinstance(result.exception, ConfigError) else 1), str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def contents(root: Path) -> dict[Path, tuple[int, int]]:
    """All that lies below a directory, with sizes and times."""
    found = {path: path.lstat() for path in (root, *root.rglob("*"))}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found.items()}


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_where_there_is_nothing_nothing_is_created(tmp_path: Path, command: list[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o555)
    before = contents(tmp_path)
    for place in (tmp_path / "typo", empty):
        code, output = run(place, *command)
        assert code == 0 if command == ["check-config"] else code in (1, 2), output
        assert contents(tmp_path) == before


def test_a_lake_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    for command in (["verify"], ["verify", "--repair"], ["dlq", "list"], ["dlq", "show"], ["dlq", "drop", "--yes"]):
        code, output = run(tmp_path / "typo", *command)
        assert (code, list(contents(tmp_path))) == (2, [tmp_path])
        assert output.startswith(f"there is no lake at {tmp_path}/typo/lake yet; ")


def test_nothing_is_proved_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "data/lake").mkdir(parents=True)
    code, output = run(tmp_path / "data", "verify")
    assert (code, output.splitlines()[-1]) == (1, "nothing to verify: there is no raw file")
    code, output = run(tmp_path / "data", "verify", "--json")
    assert (code, json.loads(output)["proved"]) == (1, False)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the real snapshots, with its database, as a service that ended has left it."""
    data_dir = tmp_path_factory.mktemp("lake") / "data"
    shutil.copytree(REAL, data_dir / "lake/bike-data/gen_info/raw")
    code, output = run(data_dir, "backfill")
    assert code == 0, output
    return data_dir


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_lake_is_left_as_it_is(lake: Path, command: list[str]) -> None:
    before = contents(lake)
    code, output = run(lake, *command)
    assert code == 0, output
    assert contents(lake) == before


def test_a_range_of_days_without_raw_files_is_nothing_to_verify(lake: Path) -> None:
    code, output = run(lake, "verify", "--from", "2025-06-01")
    assert (code, output.splitlines()[-1]) == (1, "nothing to verify: there is no raw file")
