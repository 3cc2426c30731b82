"""What arrives at the journal's socket, read as journald reads it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from bikeflow.runtime import log
from bikeflow.settings.sections import LogSettings


class Journald:
    """The receiving end of the native protocol."""

    def __init__(self, server: socket.socket, path: Path) -> None:
        self.path = path
        self.server = server

    def entry(self) -> dict[str, list[str]]:
        """The next entry: the values of each field."""
        data, fields = self.server.recv(1 << 20), dict[str, list[str]]()
        while data:
            line, _, rest = data.partition(b"\n")
            if b"=" in line:
                name, _, value = line.partition(b"=")
                data = rest
            else:
                name, size = line, int.from_bytes(rest[:8], "little")
                value, data = rest[8 : 8 + size], rest[9 + size :]
            fields.setdefault(name.decode(), []).append(value.decode())
        return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(5)
        yield Journald(server, tmp_path / "journal")


@pytest.fixture
def stderr(tmp_path: Path) -> Iterator[TextIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with (tmp_path / "stderr").open("w+", encoding="utf-8") as stream:
        yield stream
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


def configure(stderr: TextIO, journald: Path, form: str = "auto") -> None:
    status = os.fstat(stderr.fileno())
    environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    log.configure(LogSettings.model_validate({"format": form}), stderr=stderr, environ=environ, journal=journald)


def test_an_event_is_one_line_and_its_fields(stderr: TextIO, journald: Journald) -> None:
    configure(stderr, journald.path)
    with log.bound(partition="2025-06-01"):
        log.get_logger().warning("processed", trace_id="ab12", rows=7, good=True, error=None)
    assert journald.entry() == {
        "MESSAGE": ["level=warning event=processed trace_id=ab12 rows=7 good=true error= partition=2025-06-01"],
        "PRIORITY": ["4"],
        "SYSLOG_IDENTIFIER": ["bikeflow"],
        "EVENT": ["processed"],
        "TRACE_ID": ["ab12"],
        "PARTITION": ["2025-06-01"],
        "ROWS": ["7"],
        "GOOD": ["true"],
    }


def test_each_of_several_snapshots_finds_the_line(stderr: TextIO, journald: Journald) -> None:
    configure(stderr, journald.path)
    log.get_logger().info("refreshed", **log.traced(["a", "b"]))
    entry = journald.entry()
    assert (entry["TRACE_ID"], entry["TRACES"]) == (["a", "b"], ["2"])
    assert "trace_ids=a,b" in entry["MESSAGE"][0]


def test_text_from_outside_forges_no_field(stderr: TextIO, journald: Journald) -> None:
    configure(stderr, journald.path)
    log.get_logger().info("rejected", value="x\nPRIORITY=0", message="forged", priority=0, **{"_uid": 0, "2-x": "y"})
    entry = journald.entry()
    assert entry["VALUE"] == ["x\nPRIORITY=0"]
    assert (entry["PRIORITY"], len(entry["MESSAGE"])) == (["6"], 1)
    assert (entry["UID"], entry["X"]) == (["0"], ["y"])


def test_a_traceback_is_a_field_of_several_lines(stderr: TextIO, journald: Journald) -> None:
    configure(stderr, journald.path)
    log.get_logger().error("run_crashed", exc_info=ValueError("odd"))
    (traceback,) = journald.entry()["EXCEPTION"]
    assert traceback.endswith("\nValueError: odd") or traceback == "ValueError: odd"


def test_a_line_that_the_journal_does_not_take_goes_to_its_stream(
    stderr: TextIO, journald: Journald, tmp_path: Path
) -> None:
    configure(stderr, tmp_path / "gone")
    log.get_logger().error("refresh_failed")
    configure(stderr, journald.path)
    log.get_logger().error("refresh_failed", error="x" * 4_000_000)
    log.get_logger().error("refresh_failed")
    stderr.seek(0)
    assert [line[:36] for line in stderr] == [
        "<3>level=error event=refresh_failed\n",
        "<3>level=error event=refresh_failed ",
    ]
    assert journald.entry()["EVENT"] == ["refresh_failed"]
