"""In CI nothing is left out in silence: neither a test that finds something missing, nor a suite that can't start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def environ(**changes: str) -> dict[str, str]:
    """Ours, but without what CI and the box set."""
    return {name: value for name, value in os.environ.items() if name not in ("CI", "TEST_BOX")} | changes


@pytest.mark.parametrize(("ci", "code", "told"), [({}, 0, " skipped in "), ({"CI": "true"}, 1, " errors in ")])
def test_a_test_that_is_skipped_has_failed_in_ci(ci: dict[str, str], code: int, told: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/systemd"]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environ(**ci), capture_output=True, text=True)
    assert (done.returncode, told in done.stdout) == (code, True), done.stdout
    assert ("in CI is a failure: Skipped: takes root" in done.stdout) == bool(ci)


@pytest.mark.parametrize("suite", ["ceph", "systemd"])
@pytest.mark.parametrize(("ci", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_a_suite_that_can_not_start_has_failed_in_ci(tmp_path: Path, suite: str, ci: dict[str, str], code: int) -> None:
    for program in ("bash", "dirname", "id"):  # and no apt-get
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    command = ["bash", str(ROOT / ".ci" / suite)]
    done = subprocess.run(
        command, check=False, env=environ(PATH=str(tmp_path), **ci), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == code, done.stderr
    assert f"{suite} was not started".casefold() in done.stdout.casefold()


def test_a_clone_has_all_that_the_suites_start() -> None:
    for name in ("start-rgw.sh", "stop-rgw.sh", "systemd-box.sh"):
        assert (ROOT / ".ci/tools" / name).is_file()
    for suite in ("ceph", "systemd"):
        assert "shared" not in (ROOT / ".ci" / suite).read_text(encoding="utf-8")
