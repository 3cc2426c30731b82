"""`bikeflow reload`: the running service takes over a changed configuration."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from bikeflow.cli.options import Given, Json, demo_beside, grouped
from bikeflow.cli.results import echo, echo_json, printable
from bikeflow.core.errors import BikeflowError
from bikeflow.runtime.lock import held_by, holder
from bikeflow.service.reload_report import ReloadReport, read_report

LOOK_SECONDS = 0.05
ProcessId = Annotated[
    int | None,
    typer.Option("--pid", metavar="PROCESS", help="The service's process (default: the one that holds data_dir)."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for the outcome.")
]


@grouped
def reload(given: Given, pid: ProcessId = None, timeout: Timeout = 120, as_json: Json = False) -> None:
    """Make the running service take over a changed configuration.

    It is checked first, and what has changed is told. Exit code 1 where no service runs or it refuses, with the reason;
    2 where the configuration is wrong.
    """
    report = _reload(*_service(given.settings.data_dir, pid), timeout)
    if as_json:
        echo_json({"applied": not report.reason, "changed": report.changed, "reason": report.reason}, indent=2)
    elif not report.reason:
        echo("\n".join(f"{key}: {words}" for key, words in report.changed.items()) or "nothing has changed")
    if report.reason:
        typer.echo(f"error: the service goes on with its old settings: {printable(report.reason)}", err=True)
        raise typer.Exit(1)


def _service(data_dir: Path, pid: int | None) -> tuple[int, Path]:
    """The service's process, and the directory that it holds: another one where `data_dir` is what has changed."""
    held = None if pid is None else held_by(pid)  # which a process of the service's user may not see
    _drop_root(pid, data_dir)
    if pid is not None and held is not None:
        return pid, held
    found = holder(data_dir) if data_dir.is_dir() else None
    if found is None or pid not in (None, found):
        hint = demo_beside(data_dir) or "if data_dir is what has changed, name its process with --pid"
        raise BikeflowError(f"no bikeflow runs on {data_dir.absolute()}; {hint}")
    return found, data_dir


def _drop_root(pid: int | None, data_dir: Path) -> None:
    """Go on for good as the service's user: nothing that it has written is read as root."""
    if os.geteuid() != 0:
        return
    try:
        # the owner of the process's folder is root as well where the process has changed its user
        user, group = _ids(pid) if pid is not None else (data_dir.stat().st_uid, data_dir.stat().st_gid)
    except (OSError, KeyError):  # there is no such process, or directory
        return
    if user != 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)


def _ids(pid: int) -> tuple[int, int]:
    """The user and group of a process."""
    told = _told(pid)
    return int(told["Uid"][0]), int(told["Gid"][0])


def _told(pid: int) -> dict[str, list[str]]:
    """What the kernel tells of a process; raises OSError."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def _reload(pid: int, data_dir: Path, timeout: float) -> ReloadReport:
    """Send the signal and wait for the report of a reload that began after it."""
    if not _hears_sighup(pid):
        raise BikeflowError(
            f"process {pid} works on {data_dir}, but is no service that is ready to reload; when it has ended, or has"
            " started, try again"
        )
    asked = time.monotonic()
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise BikeflowError(f"can't signal process {pid}: {error.strerror}") from error
    while time.monotonic() < asked + timeout:
        report = read_report(data_dir)
        if report is not None and report.process_id == pid and report.began >= asked:
            return report
        if not Path(f"/proc/{pid}").exists():
            raise BikeflowError(f"process {pid} has ended")
        time.sleep(LOOK_SECONDS)
    raise BikeflowError(f"process {pid} has not told of the reload within {timeout:g} s; its log may tell more")


def _hears_sighup(pid: int) -> bool:
    """Whether the process handles SIGHUP, which would end any other: a backfill, or a service that is just starting."""
    try:
        caught = _told(pid).get("SigCgt", ["0"])[0]
    except OSError:
        return True  # it has ended, or can't be seen: the signal will tell
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)
