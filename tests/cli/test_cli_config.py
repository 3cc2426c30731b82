"""The command line: its frame (errors, exit codes, pipes) and `check-config`, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from bikeflow import __version__
from bikeflow.settings.model import FIELDS

SECRET = "s3cr3t-value"
S3 = {"BUCKET_NAME": "bikes", "S3_ACCESS_KEY_ID": "s3cr3t-id", "S3_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def python(
    *arguments: str, environ: Mapping[str, str] | None = None, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run Python with little but `environ` in its environment, so that stdout is buffered as it is for users."""
    command = [sys.executable, "-W", "error", *arguments]
    env = {"PATH": os.environ["PATH"], **(environ or {})}
    return subprocess.run(command, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30, check=False)


def bikeflow(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "bikeflow", *arguments, environ=environ)


def act(statement: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run the command line with one more command, `act`, whose body is `statement`."""
    program = f"from bikeflow.cli.app import app, main\n@app.command()\ndef act():\n    {statement}\nmain()\n"
    return python("-c", program, "act", stdout=stdout)


class TestFrame:
    def test_version(self) -> None:
        assert bikeflow("--version").stdout == f"bikeflow {__version__}\n"

    def test_help_names_the_commands_and_imports_nothing_heavy(self) -> None:
        help_ = bikeflow("--help")
        assert (help_.returncode, help_.stderr) == (0, "")
        assert "check-config" in help_.stdout
        program = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); "
        loaded = python("-c", f"{program}sys.argv = ['bikeflow', '--help']; from bikeflow.cli.app import main; main()")
        heavy = {"aiohttp", "asyncio", "botocore", "duckdb", "pandas", "pyarrow", "pydantic", "rich", "structlog"}
        modules = set(loaded.stdout.split())
        assert "bikeflow.cli.app" in modules
        assert not heavy & modules

    def test_wrong_usage_exits_with_2_and_says_so_without_a_traceback(self) -> None:
        wrong = bikeflow("chek-config")
        assert wrong.returncode == 2
        assert "No such command" in wrong.stderr
        assert "Traceback" not in wrong.stderr

    def test_an_expected_error_is_one_line_and_exits_with_1(self) -> None:
        failed = act("from bikeflow.core.errors import Permanent; raise Permanent('the bucket is gone')")
        assert (failed.returncode, failed.stderr) == (1, "error: the bucket is gone\n")

    def test_a_bug_shows_its_traceback(self) -> None:
        failed = act("raise RuntimeError('bug')")
        assert failed.returncode == 1
        assert failed.stderr.startswith("Traceback (most recent call last)")
        assert failed.stderr.endswith("RuntimeError: bug\n")

    def test_an_exit_code_of_a_command_is_kept(self) -> None:
        assert act("import typer; raise typer.Exit(1)").returncode == 1

    def test_an_interrupt_is_silent_and_exits_with_130(self) -> None:
        # whoever starts tests in the background may have had interrupts ignored
        heard = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)"
        failed = act(f"{heard}; signal.raise_signal(signal.SIGINT); time.sleep(5)")
        assert (failed.returncode, failed.stderr) == (130, "")

    @pytest.mark.parametrize("lines", [1, 100_000])
    def test_a_reader_that_goes_away_is_no_error_to_speak_of(self, lines: int) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        done = act(f"for _ in range({lines}): print('x' * 60)", stdout=writing)
        os.close(writing)
        assert done.stderr == ""


class TestCheckConfig:
    def test_it_lists_every_setting_with_its_origin(self) -> None:
        Path("config.toml").write_text("[feed]\ninterval_seconds = 30\n", encoding="utf-8")
        shown = bikeflow("check-config", "--set", "log.level=debug", BIKEFLOW_WATCHER__POLL_SECONDS="2")
        assert (shown.returncode, shown.stderr) == (0, "")
        lines = {" ".join(line.split()) for line in shown.stdout.splitlines()}
        assert lines >= {
            "# configuration file: config.toml",
            'data_dir = "data" # default',
            "[feed]",
            "interval_seconds = 30 # config.toml:2",
            "poll_seconds = 2 # env BIKEFLOW_WATCHER__POLL_SECONDS",
            'level = "debug" # --set log.level',
        }

    def test_its_listing_without_the_secrets_is_a_configuration_file(self) -> None:
        text = "\n".join(line for line in bikeflow("check-config").stdout.splitlines() if "(not set)" not in line)
        assert tomllib.loads(text)["processing"]["workers"] == 2

    def test_json_holds_every_setting(self) -> None:
        document = json.loads(bikeflow("check-config", "--json", "--data-dir", "/srv/bikes", **S3).stdout)
        assert document["config"] is None
        assert document["settings"].keys() == FIELDS.keys()
        assert document["settings"]["data_dir"] == {"value": "/srv/bikes", "origin": "--set data_dir"}
        assert document["settings"]["storage.backend"]["value"] == "s3"

    @pytest.mark.parametrize("form", [(), ("--json",)])
    def test_secrets_are_only_told_to_be_set(self, form: tuple[str, ...]) -> None:
        shown = bikeflow("check-config", *form, **S3)
        assert "(set)" in shown.stdout
        assert "s3cr3t" not in shown.stdout + shown.stderr
        assert "(not set)" in bikeflow("check-config", *form).stdout

    def test_what_has_no_effect_is_noted(self) -> None:
        shown = bikeflow("check-config", HETZNER_ACCESS_KEY="id")
        assert "# note: env HETZNER_ACCESS_KEY: not used, since no bucket is named" in shown.stdout

    def test_a_wrong_configuration_exits_with_2_and_one_line_for_each_problem(self) -> None:
        wrong = bikeflow("check-config", "--config", "x.toml")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr == "error: x.toml: no such file (named by --config)\n"
        wrong = bikeflow("check-config", "--set", "log.level=loud", "--set", "feed.ulr=x", BIKEFLOW_X=SECRET)
        assert wrong.returncode == 2
        assert [line.split(":")[0] for line in wrong.stderr.splitlines()] == ["error"] * 3
        assert SECRET not in wrong.stderr
