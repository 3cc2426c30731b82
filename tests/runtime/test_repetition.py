"""What repeats itself is logged a few times, then counted; what differs is always logged."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import structlog

from bikeflow.runtime import log
from bikeflow.runtime.repetition import IN_FULL, QUIET_SECONDS, Repetition
from bikeflow.settings.sections import LogSettings


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(
    times: int, settings: LogSettings | None = None, level: str = "warning", event: str = "it_failed"
) -> list[str]:
    """The lines of so many like events, each with another key, attempt and trace id."""
    stream = io.StringIO()
    log.configure(settings or LogSettings(format="logfmt"), stderr=stream, environ={})
    for number in range(times):
        key = f"raw/dt=2026-06-01/{number}.txt"
        fields = {"error": f"{key} was not taken", "attempt": number, "trace_id": f"{number:x}"}
        getattr(log.get_logger(), level)(event, **fields)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("level", ["warning", "error"])
def test_an_hour_of_outage_at_one_a_second_is_a_few_lines_and_a_count(level: str) -> None:
    lines = logged(3_600, level=level)
    assert len(lines) <= 15 and "repeated" not in lines[IN_FULL - 1]
    assert [line.rpartition("repeated=")[2] for line in lines[IN_FULL:]] == [str(2**n) for n in range(2, 12)]


def test_what_tells_of_work_done_is_never_left_out() -> None:
    assert len(logged(100, level="info")) == 100


def test_at_level_debug_nothing_is_left_out() -> None:
    assert len(logged(100, LogSettings(level="debug", format="logfmt"))) == 100


def test_answers_to_people_are_never_left_out() -> None:
    assert len(logged(100, event="reload_refused")) == 100


def test_what_differs_in_words_is_another_event() -> None:
    stream = io.StringIO()
    log.configure(LogSettings(format="logfmt"), stderr=stream, environ={})
    for word in ("a", "b", "c", "d", "e", "f", "g"):
        log.get_logger().warning("it_failed", error=f"for the reason {word}")
    assert len(stream.getvalue().splitlines()) == 7


def test_after_a_quiet_time_it_is_told_in_full_again() -> None:
    now = 0.0
    processor = Repetition(lambda: now)

    def passes() -> bool:
        try:
            return bool(processor(None, "error", {"event": "it_failed"}))
        except structlog.DropEvent:
            return False

    assert [passes() for _ in range(6)] == [True, True, True, True, False, False]
    now = QUIET_SECONDS + 1
    assert passes()
    assert "repeated" not in processor(None, "error", {"event": "it_failed"})
