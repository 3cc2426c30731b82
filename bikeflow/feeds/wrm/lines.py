"""The physical lines of many documents at once, and which of them a quick CSV reader and the contract read alike.

Odd bytes are looked for in all documents together, with numpy: a Python step for each file or line would take longer
than reading the CSV. A line is *odd* where it holds a quote that neither opens nor closes a whole field, a blank at a
field's edge, a tab, or what might be a hexadecimal number: Arrow trims blanks and tabs around numbers and reads
hexadecimal ones, the contract does neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bikeflow.feeds.wrm.document import Document, Record, read_fields

_TAB, _NEWLINE, _RETURN, _BLANK, _QUOTE, _COMMA, _ZERO, _X = b'\t\n\r ",0x'
_HIGHEST_ODD = _QUOTE
"""Control characters, blanks, exclamation marks and quotes are found in one look; the rest of the odd ones is rare."""

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that are not blank, in order; line i is `text[starts[i]:ends[i]]`, and a line feed follows.

    `document` is the index of each line's document, `number` its physical line number there.
    """

    text: bytes
    starts: Positions
    ends: Positions
    document: Positions
    number: Positions

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, line: int) -> str:
        """The text of one line."""
        return self.text[self.starts[line] : self.ends[line]].decode()

    def record(self, line: int) -> tuple[int, Record]:
        """The document of one line, and the line as a record of its own."""
        text = self.line(line)
        return int(self.document[line]), Record(int(self.number[line]), text, read_fields(text)[0])

    def without(self, odd: Positions) -> Lines:
        """The same without these lines."""
        if not len(odd):
            return self
        edges = [0, *(edge for line in odd for edge in (self.starts[line], self.ends[line] + 1)), len(self.text)]
        text = b"".join(self.text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
        keep = np.ones(len(self), dtype=bool)
        keep[odd] = False
        removed = np.cumsum(np.where(keep, 0, self.ends - self.starts + 1))[keep]
        starts, ends = self.starts[keep] - removed, self.ends[keep] - removed
        return Lines(text, starts, ends, self.document[keep], self.number[keep])

    def part(self, which: slice) -> Lines:
        """Some of the lines, at least one."""
        starts, ends = self.starts[which], self.ends[which]
        text = self.text[starts[0] : ends[-1] + 1]
        return Lines(text, starts - starts[0], ends - starts[0], self.document[which], self.number[which])


@dataclass(frozen=True, slots=True)
class Sorted:
    """Lines that can be read quickly, those that can't, and the documents in which a record may be several lines."""

    plain: Lines
    odd: list[tuple[int, Record]]
    tangled: list[int]


def sort_out(documents: Sequence[Document], indices: Sequence[int]) -> Sorted:
    """Look at all lines of these documents."""
    bodies = {index: _with_line_feeds(documents[index].body) for index in indices}
    tangled = [index for index, body in bodies.items() if body is None]
    while True:
        lines, low = _lines({index: body for index, body in bodies.items() if body}, documents)
        odd = _odd_lines(lines, low)
        # A quote that stays open takes what follows into its record: that is for a reader of whole documents.
        found = {int(lines.document[line]) for line in odd if read_fields(lines.line(line))[1]}
        if not found:
            return Sorted(lines.without(odd), [lines.record(line) for line in odd], sorted(tangled))
        tangled.extend(found)
        bodies = {index: body for index, body in bodies.items() if index not in found}


def _with_line_feeds(body: bytes) -> bytes | None:
    """The body with a line feed at the end of each line, or None where returns stand elsewhere, too."""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n")
        if b"\r" in body:
            return None
    return body if not body or body.endswith(b"\n") else body + b"\n"


def _lines(bodies: dict[int, bytes], documents: Sequence[Document]) -> tuple[Lines, Positions]:
    """All lines, and the positions of all bytes up to `_HIGHEST_ODD`."""
    text = b"".join(bodies.values())
    octets = np.frombuffer(text, np.uint8)
    low = np.flatnonzero(octets <= _HIGHEST_ODD)
    ends = low[octets[low] == _NEWLINE]
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.intp) if len(ends) else ends
    borders = np.searchsorted(ends, np.cumsum([len(body) for body in bodies.values()], dtype=np.intp))
    counts = np.diff(borders, prepend=0)
    first_lines = np.array([documents[index].first_line for index in bodies], dtype=np.intp)
    document = np.repeat(np.array(list(bodies), dtype=np.intp), counts)
    number = np.arange(len(ends)) + np.repeat(first_lines - (borders - counts), counts)
    filled = ends > starts
    if not filled.all():
        starts, ends, document, number = (column[filled] for column in (starts, ends, document, number))
    return Lines(text, starts, ends, document, number), low


def _odd_lines(lines: Lines, low: Positions) -> Positions:
    """The lines that a quick reader may read otherwise than the contract does."""
    octets = np.frombuffer(lines.text, np.uint8)
    kinds = octets[low]
    quotes, blanks = low[kinds == _QUOTE], low[kinds == _BLANK]
    exes = np.flatnonzero((octets | 0x20) == _X)
    odd = [
        low[kinds == _TAB],
        exes[octets[exes - 1] == _ZERO],
        *_odd_quotes(lines, octets, quotes),
        _outer_blanks(lines, octets, blanks, quotes),
    ]
    return np.unique(_line_of(lines, np.concatenate(odd)))


def _odd_quotes(lines: Lines, octets: npt.NDArray[np.uint8], quotes: Positions) -> tuple[Positions, ...]:
    """Quotes that neither begin nor end a field nor are doubled within one, and those with a blank inside of them."""
    line = _line_of(lines, quotes)
    number = np.arange(len(quotes)) - np.searchsorted(line, line)
    opens, last = number % 2 == 0, np.diff(line, append=-1) != 0
    # The text ends with a line feed, so there is always a byte after; before the first one that line feed stands in.
    before, after = octets[quotes - 1], octets[quotes + 1]
    begins = (before == _COMMA) | (before == _NEWLINE)
    ends = (after == _COMMA) | (after == _NEWLINE)
    follows = np.diff(quotes, prepend=-2) == 1
    doubled = np.where(opens, follows, np.append(follows[1:], False))
    fits = np.where(opens, begins, ends) | doubled
    inside = np.where(opens & begins, after, np.where(~opens & ends, before, 0))
    return quotes[~fits], quotes[opens & last], quotes[inside == _BLANK]


def _outer_blanks(lines: Lines, octets: npt.NDArray[np.uint8], blanks: Positions, quotes: Positions) -> Positions:
    """Blanks beside the end of a field."""
    before, after = octets[blanks - 1], octets[blanks + 1]
    beside = blanks[(before == _COMMA) | (after == _COMMA) | (after == _NEWLINE)]
    # Beside a comma that is between quotes, a blank is within a field: before it there is an odd number of quotes.
    start = lines.starts[_line_of(lines, beside)]
    outside: Positions = beside[(np.searchsorted(quotes, beside) - np.searchsorted(quotes, start)) % 2 == 0]
    return outside


def _line_of(lines: Lines, positions: Positions) -> Positions:
    line: Positions = np.searchsorted(lines.ends, positions)
    return line
