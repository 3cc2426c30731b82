"""The lock file can't be made to lead elsewhere, and looking at it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikeflow.core.errors import ConfigError
from bikeflow.runtime.lock import exclusive, holder

NOBODY = 65_534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user than the service's")


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "directory", "pipe"])
def test_a_lock_file_that_is_something_else_is_refused_and_what_it_leads_to_is_left_alone(
    tmp_path: Path, kind: str
) -> None:
    data_dir, other = tmp_path / "data", tmp_path / "other"
    data_dir.mkdir()
    lock = data_dir / "bikeflow.lock"
    if kind != "dangling link":
        other.write_text("precious")
    match kind:
        case "link" | "dangling link":
            lock.symlink_to(other)
        case "second name":
            lock.hardlink_to(other)
        case "directory":
            lock.mkdir()
        case _:
            os.mkfifo(lock)
    with pytest.raises(ConfigError, match=r"bikeflow\.lock"), exclusive(data_dir):
        pass
    assert holder(data_dir) is None
    assert other.read_text() == "precious" if kind != "dangling link" else not other.exists()


@AS_ROOT
def test_a_lock_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bikeflow.lock").touch()
    os.chown(tmp_path / "bikeflow.lock", NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="belongs to another user"), exclusive(tmp_path):
        pass


def test_it_can_be_read_by_the_group_at_most_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        with exclusive(tmp_path):
            assert stat.S_IMODE((tmp_path / "bikeflow.lock").stat().st_mode) == 0o640
            (tmp_path / "spool").mkdir()
            (tmp_path / "spool" / "file").write_text("")
            assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o750
            assert stat.S_IMODE((tmp_path / "spool" / "file").stat().st_mode) == 0o640
    finally:
        os.umask(former)


def test_looking_who_holds_it_creates_and_changes_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path) is None and not list(tmp_path.iterdir())
    with exclusive(tmp_path):
        before = (tmp_path / "bikeflow.lock").stat()
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    after = (tmp_path / "bikeflow.lock").stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (before.st_mtime_ns, before.st_size, before.st_ino)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others may enter, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


SERVICE = """
import fcntl, os, signal, sys, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
signal.signal(signal.SIGHUP, lambda *_: None)
lock = os.open(sys.argv[1] + "/bikeflow.lock", os.O_RDWR | os.O_CREAT, 0o640)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, b"%d" % os.getpid())
print("ready", flush=True)
time.sleep(600)
"""


@AS_ROOT
@pytest.mark.parametrize("named", [True, False])
def test_root_who_reloads_reads_the_state_of_the_service_as_its_user(place: Path, named: bool) -> None:
    """The service's user has put a link to what only root may read where the report is looked for."""
    data_dir, secret = place / "data", place / "secret.json"
    data_dir.mkdir()
    os.chown(data_dir, NOBODY, NOBODY)
    command = [sys.executable, "-c", textwrap.dedent(SERVICE), str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None and service.stdout.readline() == "ready\n"
            report = {"process_id": service.pid, "began": 1e12, "at": "", "reason": "the secret of root"}
            secret.write_text(json.dumps(report))
            secret.chmod(0o600)
            (data_dir / "reload.json").symlink_to(secret)
            result = subprocess.run(
                [sys.executable, "-m", "bikeflow", "reload", "--data-dir", str(data_dir), "--timeout", "1",
                 *(["--pid", str(service.pid)] if named else [])],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            service.send_signal(signal.SIGKILL)
    assert result.returncode == 1 and "has not told of the reload" in result.stderr, result.stderr
    assert "the secret of root" not in result.stderr
