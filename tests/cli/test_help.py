"""What the commands' help looks like on a terminal of 80 columns, and the first words to a newcomer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.core.errors import BikeflowError
from bikeflow.runtime.lock import DEMO_MARK

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


@pytest.mark.parametrize(("name", "summary"), listed().items())
def test_the_table_of_commands_says_what_each_says_of_itself(name: str, summary: str) -> None:
    assert summary in " ".join(told(name, "--help").split())


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


def test_a_demos_directory_has_the_demos_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIKEFLOW_WAREHOUSE__PATH", str(tmp_path / "real.duckdb"))
    for name, text in (("config.toml", '[storage]\nbackend = "s3"\nbucket = "real"\n'), (f"demo/{DEMO_MARK}", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = json.loads(told("check-config", "--data-dir", "demo", "--set", "storage.prefix=mine/", "--json"))
    settings = {key: value["value"] for key, value in shown["settings"].items()}
    assert (settings["storage.backend"], settings["warehouse.path"], settings["storage.bucket"]) == ("local", None, "")
    assert (settings["data_dir"], settings["storage.prefix"]) == ("demo", "mine/")
    assert shown["config"] is None and shown["notes"] == []
    assert "belongs to a demo" in told("check-config", "--data-dir", "demo", "--config", "config.toml")
    monkeypatch.setenv("BIKEFLOW_DATA_DIR", "demo")
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "secret")
    assert "config.toml" not in told("check-config")
    assert '"s3"' in told("check-config", "--data-dir", "elsewhere")
