"""What the Makefile installs for which target."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def installed(target: str, venv: Path) -> list[str]:
    """The extras that are installed for a target, in order, where there is no environment yet."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make here")
    command = [make, "--dry-run", target, f"VENV={venv}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return re.findall(r"pip install .*'\.\[([\w,]+)\]'", shown.stdout)


@pytest.mark.parametrize("target", ["run", "demo"])
def test_running_installs_no_tools_for_tests_and_checks(tmp_path: Path, target: str) -> None:
    assert installed(target, tmp_path / "venv") == ["postgres"]


@pytest.mark.parametrize("target", ["test", "lint", "check", "bench", "soak"])
def test_testing_installs_the_rest_as_well(tmp_path: Path, target: str) -> None:
    assert installed(target, tmp_path / "venv") == ["postgres", "postgres,test,dev"]


def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    for stamp in (".ready-run", ".ready-dev"):
        (tmp_path / stamp).touch()
    assert installed("test", tmp_path) == [] == installed("run", tmp_path)
