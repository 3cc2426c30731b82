"""Every event is one line, in the form that its reader wants."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import pytest
import structlog
from pydantic import SecretStr

from bikeflow.core.errors import Transient
from bikeflow.runtime import log
from bikeflow.settings.sections import LogSettings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level


def configured(**settings: str) -> io.StringIO:
    stream = io.StringIO()
    log.configure(LogSettings.model_validate(settings), stderr=stream, environ={})
    return stream


def only_event(stream: io.StringIO) -> dict[str, object]:
    (line,) = stream.getvalue().splitlines()
    event: dict[str, object] = json.loads(line)
    return event


def test_away_from_a_terminal_events_are_logfmt_with_utc_timestamps() -> None:
    stream = configured()
    log.get_logger().info("stored a snapshot", size=7, new=True, etag=None)
    timestamp, rest = stream.getvalue().split(" ", 1)
    assert rest == 'level=info event="stored a snapshot" size=7 new=true etag=\n'
    assert timestamp.endswith("Z")
    assert datetime.fromisoformat(timestamp.removeprefix("timestamp=")).utcoffset() == timedelta(0)


def test_json_is_one_object_a_line() -> None:
    stream = configured(format="json")
    log.get_logger().warning("fetch failed", error="Łąka", at=SecretStr("hidden"))
    event = only_event(stream)
    assert (event["level"], event["event"], event["error"]) == ("warning", "fetch failed", "Łąka")
    assert "hidden" not in stream.getvalue()


def test_events_below_the_level_are_left_out() -> None:
    stream = configured(level="warning")
    log.get_logger().info("looked")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["logfmt", "json", "console"])
def test_text_from_outside_forges_no_line_and_moves_no_cursor(form: str) -> None:
    stream = configured(format=form)
    log.get_logger().info("rejected\na line", value='x\nlevel=error\r\x1b[2J"\x9b\x85')
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not {"\r", "\x1b"} & set(text)
    if form != "json":  # JSON may hold these as they are
        assert not {"\x9b", "\x85"} & set(text)


async def test_bound_fields_follow_the_tasks_started_within() -> None:
    stream = configured(format="json")

    async def work() -> None:
        log.get_logger().info("worked")

    with log.bound(trace_id="t1"):
        task = asyncio.create_task(work())
    await task
    assert only_event(stream)["trace_id"] == "t1"


def test_an_expected_error_is_one_line_without_a_traceback() -> None:
    stream = configured(format="json")
    try:
        raise Transient("the store answered 503")
    except Transient:
        log.get_logger().warning("put failed", exc_info=True)
    event = only_event(stream)
    assert event["error"] == "the store answered 503"
    assert "exception" not in event


def test_at_level_debug_an_expected_error_has_its_traceback() -> None:
    stream = configured(format="json", level="debug")
    log.get_logger().warning("put failed", exc_info=Transient("x"))
    assert "Transient: x" in str(only_event(stream)["exception"])


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_a_bug_has_its_traceback_and_is_still_one_line(form: str) -> None:
    stream = configured(format=form)
    try:
        dict[str, int]()["gone"]
    except KeyError:
        log.get_logger().exception("job failed")
    (line,) = stream.getvalue().splitlines()
    assert "KeyError: 'gone'" in line
    assert "Traceback (most recent call last)" in line


def test_a_bug_on_the_console_shows_its_traceback_as_people_read_it() -> None:
    stream = configured(format="console")
    log.get_logger().error("job failed", exc_info=ValueError("odd\x1b[2J"))
    assert "\nValueError: odd\\x1b[2J" in stream.getvalue()


def test_events_of_libraries_come_the_same_way_from_warnings_up() -> None:
    stream = configured(format="json")
    logging.getLogger("botocore.hooks").info("chatter")
    logging.getLogger("aiohttp.server").warning("odd %s", "request\n")
    event = only_event(stream)
    assert (event["event"], event["logger"], event["level"]) == ("odd request", "aiohttp.server", "warning")


def test_levels_that_only_a_library_has_are_logged_at_the_one_below() -> None:
    stream = configured(format="json")
    logging.getLogger("x").log(37, "between")
    assert only_event(stream)["level"] == "warning"


def test_warnings_of_python_are_events_too() -> None:
    stream = configured(format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old way", stacklevel=1)
    assert "UserWarning: old way" in str(only_event(stream)["event"])


def test_configuring_again_replaces_what_was() -> None:
    first, second = configured(), configured(format="json")
    log.get_logger().info("once")
    logging.getLogger("x").error("and once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 2


PROGRAM = textwrap.dedent("""
    import logging, sys
    from pathlib import Path
    from bikeflow.runtime import log
    from bikeflow.settings.sections import LogSettings
    log.configure(LogSettings(level="debug", format=sys.argv[1]), journal=Path(sys.argv[2]))
    log.get_logger().debug("a")
    log.get_logger().info("b", key="raw/x")
    log.get_logger().error("c")
    logging.getLogger("lib").warning("d")
""")


def stderr_of(
    form: str, *, journal: bool, environ: Mapping[str, str] | None = None, socket_path: str = "/nonexistent"
) -> list[str]:
    """What the program writes to a stderr that JOURNAL_STREAM names (or not), as systemd would set both up."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as reader:  # noqa: PTH123 - a descriptor has no path
        status = os.fstat(writing)
        inode = status.st_ino if journal else status.st_ino + 1
        environ = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{inode}", **(environ or {})}
        program = [sys.executable, "-c", PROGRAM, form, socket_path]
        subprocess.run(program, stderr=writing, env=environ, check=True, timeout=30)
        os.close(writing)
        return reader.read().splitlines()


def test_under_journald_lines_have_priorities_and_no_timestamp() -> None:
    assert stderr_of("auto", journal=True) == [
        "<7>level=debug event=a",
        "<6>level=info event=b key=raw/x",
        "<3>level=error event=c",
        "<4>level=warning event=d logger=lib",
    ]


def test_json_under_journald_has_priorities_as_well() -> None:
    first, *_ = stderr_of("json", journal=True)
    assert first.startswith("<7>{")
    assert json.loads(first.removeprefix("<7>"))["event"] == "a"


def test_an_inherited_journal_variable_that_names_another_stream_counts_for_nothing() -> None:
    lines = stderr_of("auto", journal=False)
    assert len(lines) == 4
    assert all(line.startswith("timestamp=20") for line in lines)


def test_on_a_terminal_events_are_for_people() -> None:
    leader, follower = os.openpty()
    program = [sys.executable, "-c", PROGRAM, "auto", "/nonexistent"]
    subprocess.run(program, stderr=follower, env={**os.environ, "JOURNAL_STREAM": "1:1"}, check=True, timeout=30)
    os.close(follower)
    text = os.read(leader, 65536).decode()
    os.close(leader)
    assert "\x1b[" in text
    assert "level=info" not in text


def test_json_has_no_character_that_a_reader_of_lines_takes_for_a_line_s_end_or_a_command() -> None:
    stream = configured(format="json")
    text = "a\x7f\x80\x85\x9b2J\x9f\u2028\u2029ż\U0001f6b2"
    log.get_logger().info("odd", name=text, **{"key\u2028": 1})
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["name"] == text and "ż\U0001f6b2" in line
    assert "\\u009b" in line and "\\u2028" in line and not set(line) & set("\x7f\x80\x85\x9b\x9f\u2028\u2029")
