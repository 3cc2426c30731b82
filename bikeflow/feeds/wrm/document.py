"""A raw file as UTF-8 text: its header, and its data lines one by one.

A *record* is one physical line, or several where a quoted field holds line breaks. An unbalanced quote costs only its
own line: lines are joined only where the joined text closes the quote and gives the header's number of fields.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

PACKED = "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"
BATTERY = "givesbonus_acceptspedelecs_fbbattlevel"
WHOLE = ("bikes", "spaces", "total_docks", "pedelecs")
REAL = ("lat", "lon")
BOOLEAN = ("installed", "locked", "temporary")
REQUIRED = ("name", *REAL, "bikes", "spaces", *BOOLEAN, "total_docks", "pedelecs")
"""The columns that a header must name after the id and the packed column; `BATTERY` is optional."""
KNOWN_COLUMNS = frozenset({*REQUIRED, BATTERY})

_LINE_END = re.compile("\r\n|\n|\r")
_LINE_END_BYTES = re.compile(b"\r\n|\n|\r")
MAX_JOINED_LINES = 16
_AFTER_QUOTE = "\x1e"


class Rejected(ValueError):
    """A line, or a whole file, breaks a rule; `column`, `check` and `value` go to its dead letter."""

    def __init__(self, message: str, *, check: str, column: str | None = None, value: str | None = None) -> None:
        super().__init__(message)
        self.check = check
        self.column = column
        self.value = value


@dataclass(frozen=True, slots=True)
class Header:
    """Where each column stands: `width` fields a line, `positions` by name (id and packed are always 0 and 1)."""

    names: tuple[str, ...]
    positions: tuple[tuple[str, int], ...]

    @property
    def width(self) -> int:
        """Number of fields that each line must have."""
        return len(self.names)

    @property
    def extra(self) -> tuple[str, ...]:
        """Columns that we don't know: schema drift, reported once."""
        return tuple(name for name in self.names[2:] if name not in KNOWN_COLUMNS)


@dataclass(frozen=True, slots=True)
class Document:
    """One raw file ready to be parsed: `body` is the UTF-8 after the header, `first_line` its line number."""

    header: Header
    body: bytes
    first_line: int


@dataclass(frozen=True, slots=True)
class Record:
    """One data line: its physical line number (1 = the header's when it comes first), text and fields."""

    line_number: int
    text: str
    fields: list[str]


def read_document(text: bytes) -> Document:
    """Take the header off a raw file; raises `Rejected` where there is none or it lacks a required column."""
    line_number, start = 1, 0
    while (match := _LINE_END_BYTES.match(text, start)) is not None:
        line_number, start = line_number + 1, match.end()
    end = _LINE_END_BYTES.search(text, start)
    line, body = (text[start : end.start()], text[end.end() :]) if end else (text[start:], b"")
    return Document(_header(line.decode()), body, line_number + 1)


def records(document: Document) -> Iterator[Record]:
    """All data lines in order; blank lines are none."""
    body = document.body.decode()
    lines, ends = _LINE_END.split(body), _LINE_END.findall(body)
    index = 0
    while index < len(lines):
        if lines[index] == "":
            index += 1
            continue
        count = _joined_lines(lines, ends, index, document.header.width)
        text = _join(lines, ends, index, count)
        yield Record(document.first_line + index, text, read_fields(text)[0])
        index += count


def read_fields(text: str) -> tuple[list[str], bool]:
    """The fields of one line as the csv module reads them, and whether its last quote stays open."""
    if '"' not in text:
        return text.split(","), False
    # Else the csv module refuses fields of more than 131,072 characters, which Arrow does not.
    csv.field_size_limit(sys.maxsize)
    # The reader takes what follows into the record exactly when a quote is still open at the end.
    reader = csv.reader(iter([f"{text}\n", _AFTER_QUOTE]))
    try:
        fields = next(reader)
        is_open = fields[-1].endswith(f"\n{_AFTER_QUOTE}")
        if is_open:
            fields[-1] = fields[-1].removesuffix(f"\n{_AFTER_QUOTE}")
    except csv.Error:
        return [text], False
    return fields, is_open


@lru_cache(maxsize=64)
def _header(line: str) -> Header:
    names = tuple(name.strip() for name in read_fields(line)[0]) if line else ()
    if len(names) < len(REQUIRED):
        raise Rejected("the file has no header line", check="header")
    positions: dict[str, int] = {}
    for position, name in enumerate(names[2:], start=2):
        positions.setdefault(name, position)
    for name in REQUIRED:
        if name not in positions:
            raise Rejected(f"the header lacks the required column {name}", check="header", column=name)
    wanted = (*REQUIRED, BATTERY)
    return Header(names, tuple((name, positions[name]) for name in wanted if name in positions))


def _joined_lines(lines: list[str], ends: list[str], index: int, width: int) -> int:
    if '"' not in lines[index] or not read_fields(lines[index])[1]:
        return 1
    for count in range(2, min(MAX_JOINED_LINES, len(lines) - index) + 1):
        if '"' not in lines[index + count - 1]:
            continue
        fields, is_open = read_fields(_join(lines, ends, index, count))
        if not is_open and len(fields) == width:
            return count
    return 1


def _join(lines: list[str], ends: list[str], index: int, count: int) -> str:
    if count == 1:
        return lines[index]
    inner = zip(lines[index : index + count - 1], ends[index:], strict=False)
    return "".join(line + end for line, end in inner) + lines[index + count - 1]
