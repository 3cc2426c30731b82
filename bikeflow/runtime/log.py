"""One logger for the whole process: every event one line on stderr, in the form that its reader wants.

Console on a terminal, logfmt elsewhere, JSON on request; under journald with priorities, and with the journal's fields.
The events of libraries go the same way, from warnings up. An event is a few past-tense words; what it tells stands in
its fields.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from bikeflow.core.errors import BikeflowError
from bikeflow.runtime.journald import SOCKET, Journal
from bikeflow.runtime.repetition import Repetition
from bikeflow.settings.sections import LogSettings

_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
_LOGGED_TRACES = 10
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
# logfmt's renderer escapes line feeds by itself
_CONTROLS_BUT_LINE_FEED = {code: text for code, text in _CONTROLS.items() if code != 0x0A}


def get_logger() -> FilteringBoundLogger:
    """The process's logger; cheap, fit for a module's global, and subject to a later `configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger())


def bound(**fields: object) -> AbstractContextManager[None]:
    """Within this context, and the tasks started in it, every event carries `fields` (such as `trace_id`)."""
    return structlog.contextvars.bound_contextvars(**fields)


def new_trace_id() -> str:
    """What follows a snapshot through all logs: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def traced(traces: Sequence[str]) -> dict[str, str | int]:
    """The fields that name the snapshots which an event is about: all ids while there are few."""
    if len(traces) == 1:
        return {"trace_id": traces[0]}
    named = {"trace_ids": ",".join(traces[:_LOGGED_TRACES])} if traces else {}
    return {"traces": len(traces), **named}


def configure(
    settings: LogSettings,
    *,
    stderr: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    journal: Path = SOCKET,
) -> None:
    """Send all events, our own and the libraries', to `stderr` as `settings` say; may be called again.

    Where `stderr` ends in the journal anyway, they go to its socket `journal` instead, with their fields.
    """
    stream = sys.stderr if stderr is None else stderr
    journald = ends_in_journal(stream, environ)
    form = settings.format
    if form == "auto":
        form = "console" if stream.isatty() and not journald else "logfmt"
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _explain_exception(always_trace=settings.level == "debug"),
    ]
    if settings.level != "debug":
        processors.append(Repetition())
    if form == "json" or not journald:  # the journal has its own timestamps
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    renderers = _renderers(form, stream)
    processors += [cast(Processor, _journaled(Journal(journal), renderers))] if journald else renderers
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Enduring(stream))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


class _Enduring:
    """A stream that ignores errors: a log on a full disk, or whose reader has gone, must not cost a snapshot."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what the stream takes."""
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        """Hand on what was written, if that works."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def _renderers(form: str, stream: TextIO) -> list[Processor]:
    if form == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False, default=str), _without_line_ends]
    if form == "logfmt":
        order = ["timestamp", "level", "event"]
        return [
            _printable(_CONTROLS_BUT_LINE_FEED),
            structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True, bool_as_flag=False),
        ]
    return [_printable(_CONTROLS), structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)]


def _without_line_ends(_logger: WrappedLogger, _method: str, line: Any) -> Any:
    """JSON leaves as they are what some readers take for the end of a line, and terminals for commands."""
    return line.translate(_JSON_ESCAPES)


def ends_in_journal(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """True where `stream` is the very socket that systemd named: children with another stderr inherit the variable."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    given = os.environ if environ is None else environ
    return given.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _explain_exception(*, always_trace: bool) -> Processor:
    """Turn `exc_info` into a one-line `error`; bugs get their traceback, expected errors only at level debug."""

    def process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        given = event.pop("exc_info", None)
        if isinstance(given, tuple):
            given = given[1]
        error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
        if error is not None:
            expected = isinstance(error, BikeflowError)
            event.setdefault("error", str(error) if expected else f"{type(error).__name__}: {error}")
            if always_trace or not expected:
                event["exception"] = "".join(traceback.format_exception(error)).rstrip()
        return event

    return process


def _printable(table: Mapping[int, str]) -> Processor:
    """Show control characters instead of obeying them: a feed's text must not forge lines or move the cursor."""

    def process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for key, value in event.items():
            if value is not None and not isinstance(value, bool | int | float):
                event[key] = str(value).translate(_CONTROLS_BUT_LINE_FEED if key == "exception" else table)
        return event

    return process


def _journaled(journal: Journal, renderers: Sequence[Processor]) -> Callable[[WrappedLogger, str, EventDict], str]:
    """Give the event to the journal, or else make it a line with syslog's `<priority>` for the journal's stream."""

    def process(logger: WrappedLogger, method: str, event: EventDict) -> str:
        priority, fields = _PRIORITIES.get(method, 6), dict(event)
        # Any snapshot of a run finds its line: a field of the journal may have several values.
        fields["trace_id"] = fields.pop("trace_ids", "").split(",") if "trace_ids" in fields else event.get("trace_id")
        line: Any = event
        for render in renderers:
            line = render(logger, method, line)
        if journal.send(line, priority, fields):
            raise structlog.DropEvent
        return f"<{priority}>{line}"

    return process


class _Forward(logging.Handler):
    """Hands the events of the standard library's loggers to ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record with its logger's name, at the standard level below its own."""
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        get_logger().log(level, record.getMessage().strip(), logger=record.name, exc_info=record.exc_info)
