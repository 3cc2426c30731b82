"""What the commands' help looks like on a terminal of 80 columns, and the first words to a newcomer."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.errors import BikeflowError
from bikeflow.lock import DEMO_MARK

GROUPS = ("dlq", "alerts")


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"}, terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.stdout


def listed(*group: str) -> dict[str, str]:
    """The commands of a group with their summaries."""
    lines = told(*group, "--help").partition("\nCommands:\n")[2].splitlines()
    return {name: text.strip() for name, _, text in (line.strip().partition(" ") for line in lines)}


COMMANDS = [(name,) for name in listed() if name not in GROUPS] + [
    (group, name) for group in GROUPS for name in listed(group)
]


@pytest.mark.parametrize("group", [(), *((group,) for group in GROUPS)])
def test_summaries_are_whole(group: tuple[str, ...]) -> None:
    summaries = listed(*group)
    assert summaries and all(text.endswith(".") and "..." not in text for text in summaries.values()), summaries


@pytest.mark.parametrize("command", [(), *((group,) for group in GROUPS), *COMMANDS])
def test_help_has_a_short_name_and_speaks_plainly(command: tuple[str, ...]) -> None:
    text = told(*command, "--help")
    assert told(*command, "-h") == text
    assert "range>" not in text and "<int>" not in text and "<str>" not in text and "[[" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["summary"], ["map"], ["status"], ["reload"]])
def test_beside_a_demo_a_command_says_how_to_ask_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "demo").mkdir(parents=True)
    (tmp_path / "data" / "demo" / DEMO_MARK).touch()
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, BikeflowError)
    assert "found data/demo: add --data-dir data/demo" in str(result.exception)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["demo"]
