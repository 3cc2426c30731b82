"""What the Makefile installs for which target."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def installed(target: str, venv: Path) -> list[str]:
    """The lists of packages that are installed for a target, in order, where there is no environment yet."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make here")
    command = [make, "--dry-run", target, f"VENV={venv}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    lines = [line for line in shown.stdout.splitlines() if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation -e ." in line for line in lines)
    return [" ".join(re.findall(r"-r \.ci/locked/(\w+)\.txt", line)) for line in lines if "-e ." not in line]


@pytest.mark.parametrize("target", ["run", "demo"])
def test_running_installs_no_tools_for_tests_and_checks(tmp_path: Path, target: str) -> None:
    assert installed(target, tmp_path / "venv") == ["build run"]


@pytest.mark.parametrize("target", ["test", "lint", "check", "bench", "soak"])
def test_testing_installs_the_rest_as_well(tmp_path: Path, target: str) -> None:
    assert installed(target, tmp_path / "venv") == ["build run", "build run test"]


def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    for stamp in (".ready-run", ".ready-dev"):
        (tmp_path / stamp).touch()
    assert installed("test", tmp_path) == [] == installed("run", tmp_path)


def test_every_package_that_is_installed_has_the_pinned_version_and_hashes() -> None:
    pinned = set((ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").split())
    for name in ("run", "build", "test"):
        text = (ROOT / f".ci/locked/{name}.txt").read_text(encoding="utf-8")
        packages = re.findall(r"(?m)^([\w.-]+==[^\s;]+)( ; [^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", text)
        assert len(packages) == text.count("==") - text.count(" == ") > 4
        elsewhere = {package for package, marker in packages if "win32" in marker}
        assert {package.replace("_", "-") for package, _ in packages} - elsewhere <= pinned
        assert "http" not in text.replace("aiohttp", "").replace("httpfs", "").replace("httptools", "")
