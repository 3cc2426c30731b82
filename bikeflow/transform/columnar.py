"""Many raw files at once: lines to typed columns with pyarrow.csv, ten times faster than line by line.

The fast path takes only lines of which it is sure: quotes around whole fields only, no blanks at their edges, no odd
line ends, numbers that Arrow and the contract read alike. Lines with other quotes go through `exact` one by one, and so
does a whole file as soon as Arrow refuses anything in it: a refusal says neither which line nor why, and the dead
letters need both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from bikeflow.schema import BATTERY, BOOLEAN, REAL, WHOLE
from bikeflow.transform.document import Document, Header, Record, read_fields, records
from bikeflow.transform.exact import MICRO, Rejected, TypedRow, typed

TYPED = pa.schema(
    [
        ("station_id", pa.string()),
        ("name", pa.string()),
        ("timestamp", pa.int64()),
        ("gmt_local_diff_sec", pa.int64()),
        ("gmt_servertime_diff_sec", pa.int64()),
        ("lat", pa.float64()),
        ("lon", pa.float64()),
        ("bikes", pa.int64()),
        ("spaces", pa.int64()),
        ("installed", pa.bool_()),
        ("locked", pa.bool_()),
        ("temporary", pa.bool_()),
        ("total_docks", pa.int64()),
        ("pedelecs", pa.int64()),
        ("battery", pa.string()),
        ("line", pa.int64()),
        ("document", pa.int64()),
    ]
)
"""Typed rows: `line` is the physical line number, `document` the index of the file in its batch."""

_TYPES = {
    "name": pa.string(),
    **{column: pa.float64() for column in REAL},
    **{column: pa.int64() for column in WHOLE},
    **{column: pa.bool_() for column in BOOLEAN},
    BATTERY: pa.string(),
}
# Floats beyond this many seconds lose whole microseconds, or overflow them: left to the exact path.
_MAX_SECONDS = 2**53 / MICRO
# A field in quotes, whole and with no quote inside, that ends where a field may end.
_QUOTED = re.compile(r'"[^"\n]*"(?=[,\n])')


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that could not be typed."""

    document: int
    record: Record
    reason: Rejected


class _Refused(Exception):
    """The fast path is not sure about this text."""


def parse(documents: Sequence[Document]) -> tuple[pa.Table, list[Broken]]:
    """All lines of all documents: typed rows (columns `TYPED`) ordered by document and line, and the broken ones."""
    tables: list[pa.Table] = []
    broken: list[Broken] = []
    by_header: dict[Header, list[int]] = {}
    for index, document in enumerate(documents):
        by_header.setdefault(document.header, []).append(index)
    for header, indices in by_header.items():
        _parse_alike(documents, header, indices, tables, broken)
    table = pa.concat_tables([TYPED.empty_table(), *tables]).combine_chunks()
    position = (table["document"].to_numpy() << 40) + table["line"].to_numpy()
    if (np.diff(position) < 0).any():
        table = table.take(pa.array(np.argsort(position)))
    broken.sort(key=lambda item: (item.document, item.record.line_number))
    return table, broken


def _parse_alike(
    documents: Sequence[Document],
    header: Header,
    indices: Sequence[int],
    tables: list[pa.Table],
    broken: list[Broken],
) -> None:
    """Documents of one header: all at once, or by halves until the ones that Arrow refuses stand alone."""
    plain: list[_Plain] = []
    quoted: list[tuple[int, Record]] = []
    for index in indices:
        split = _split_quoted(documents[index], index)
        if split is None:
            quoted.extend((index, record) for record in records(documents[index]))
        else:
            plain.append(split[0])
            quoted.extend((index, record) for record in split[1])
    _parse_plain(documents, header, plain, tables, quoted)
    rows: list[tuple[int, TypedRow]] = []
    for index, record in quoted:
        try:
            rows.append((index, typed(record, header)))
        except Rejected as reason:
            broken.append(Broken(index, record, reason))
    if rows:
        tables.append(_rows_table(rows))


def _parse_plain(
    documents: Sequence[Document],
    header: Header,
    plain: Sequence[_Plain],
    tables: list[pa.Table],
    careful: list[tuple[int, Record]],
) -> None:
    if not plain:
        return
    try:
        tables.append(_read(header, plain))
    except (_Refused, pa.ArrowInvalid):
        if len(plain) > 1:
            middle = len(plain) // 2
            _parse_plain(documents, header, plain[:middle], tables, careful)
            _parse_plain(documents, header, plain[middle:], tables, careful)
            return
        index, lines = plain[0].document, set(plain[0].lines().tolist())
        careful.extend((index, record) for record in records(documents[index]) if record.line_number in lines)


@dataclass(frozen=True, slots=True)
class _Plain:
    """The lines of one document that hold no odd quote: `removed` are the numbers of those taken out between them."""

    document: int
    text: bytes
    count: int
    first_line: int
    removed: tuple[int, ...]

    def lines(self) -> np.ndarray:
        """Physical line numbers, one for each line of `text`."""
        numbers = np.arange(self.first_line, self.first_line + self.count + len(self.removed), dtype=np.int64)
        return np.delete(numbers, np.array(self.removed, dtype=np.int64) - self.first_line) if self.removed else numbers


def _split_quoted(document: Document, index: int) -> tuple[_Plain, list[Record]] | None:
    """Part the lines with odd quotes from the rest; None where that takes the exact reader."""
    body = document.body
    if body and not body.endswith("\n"):
        body += "\n"
    if "\r" in body or "\n\n" in body or body.startswith("\n"):
        return None
    pieces: list[str] = []
    quoted: list[Record] = []
    start, line = 0, document.first_line
    position = body.find('"')
    while position >= 0:
        field = _QUOTED.match(body, position)
        if field is not None and (position == 0 or body[position - 1] in ",\n"):
            position = body.find('"', field.end())
            continue
        first, last = body.rfind("\n", 0, position) + 1, body.find("\n", position)
        text = body[first:last]
        fields_of_line, is_open = read_fields(text)
        if is_open:
            return None
        pieces.append(body[start:first])
        line += body.count("\n", start, first)
        quoted.append(Record(line, text, fields_of_line))
        start, line = last + 1, line + 1
        position = body.find('"', start)
    pieces.append(body[start:])
    plain = "".join(pieces).encode()
    numbers = tuple(record.line_number for record in quoted)
    return _Plain(index, plain, plain.count(b"\n"), document.first_line, numbers), quoted


def _read(header: Header, plain: Sequence[_Plain]) -> pa.Table:
    text = b"".join(piece.text for piece in plain)
    if _is_suspect(text):
        raise _Refused
    wanted = {"0": pa.string(), "1": pa.string()}
    wanted.update({str(position): _TYPES[name] for name, position in header.positions})
    raw = (
        pcsv.read_csv(
            pa.py_buffer(text),
            read_options=pcsv.ReadOptions(
                column_names=[str(n) for n in range(header.width)], use_threads=False, block_size=4 << 20
            ),
            # Looking out for quotes takes time. A doubled one can't be in here.
            parse_options=pcsv.ParseOptions(quote_char='"' if b'"' in text else False, double_quote=False),
            convert_options=pcsv.ConvertOptions(
                column_types=wanted,
                include_columns=list(wanted),
                null_values=[],
                strings_can_be_null=False,
                true_values=["true"],
                false_values=["false"],
            ),
        )
        if text
        else pa.schema(list(wanted.items())).empty_table()
    )
    counts = [piece.count for piece in plain]
    if raw.num_rows != sum(counts):
        raise _Refused
    columns = {name: raw[str(position)] for name, position in header.positions}
    columns["station_id"] = raw["0"]
    columns.update(_unpack(raw["1"].combine_chunks()))
    if not all(np.isfinite(columns[name].to_numpy()).all() for name in REAL):
        raise _Refused
    if BATTERY in columns:
        columns["battery"] = columns.pop(BATTERY)
    else:
        columns["battery"] = pa.nulls(raw.num_rows, pa.string())
    columns["line"] = pa.array(np.concatenate([piece.lines() for piece in plain]))
    columns["document"] = pa.array(np.repeat([piece.document for piece in plain], counts))
    return pa.table([columns[name] for name in TYPED.names], schema=TYPED)


def _is_suspect(text: bytes) -> bool:
    """Whether a field may begin or end with a blank, or hold a tab or a hexadecimal number.

    Arrow trims blanks and tabs around numbers and reads hexadecimal ones; the contract does neither. Looking at the
    neighbours of each blank and x takes a tenth of the time of searching the text for their combinations.
    """
    octets = np.frombuffer(text, np.uint8)
    blank, letter_x = np.flatnonzero(octets == ord(" ")), np.flatnonzero((octets | 0x20) == ord("x"))
    before, after = octets[blank - 1], octets[blank + 1]
    at_quote = (before == ord('"')) | (after == ord('"'))
    at_edge = (before == ord(",")) | (after == ord(",")) | (after == ord("\n"))
    # Beside a comma that is between quotes, a blank is within a field: before it there is an odd number of quotes.
    quotes_before = np.searchsorted(np.flatnonzero(octets == ord('"')), blank[at_edge])
    return bool(
        b"\t" in text or at_quote.any() or (quotes_before % 2 == 0).any() or (octets[letter_x - 1] == ord("0")).any()
    )


def _unpack(packed: pa.Array) -> dict[str, pa.Array]:
    """Split `seconds|diff|diff` in three; refuses what does not split or does not fit."""
    parts = pc.split_pattern(packed, "|")
    if len(packed) and not pc.all(pc.equal(pc.list_value_length(parts), 3)).as_py():
        raise _Refused
    texts = parts.flatten()
    at = np.arange(0, len(texts), 3)
    seconds = pc.cast(texts.take(pa.array(at)), pa.float64()).to_numpy()
    if not (np.abs(seconds) < _MAX_SECONDS).all():
        raise _Refused
    differences = [texts.take(pa.array(at + offset)) for offset in (1, 2)]
    local, server = (_whole_numbers(column) for column in differences)
    return {
        "timestamp": pa.array(np.round(seconds * MICRO).astype(np.int64)),
        "gmt_local_diff_sec": local,
        "gmt_servertime_diff_sec": server,
    }


def _whole_numbers(texts: pa.Array) -> pa.Array:
    # A feed has one or two time zones: a few distinct texts are cast instead of all.
    encoded = texts.dictionary_encode()
    return pc.cast(encoded.dictionary, pa.int64()).take(encoded.indices)


def _rows_table(rows: Sequence[tuple[int, TypedRow]]) -> pa.Table:
    columns = {item.name: [getattr(row, item.name) for _, row in rows] for item in fields(TypedRow)}
    columns["document"] = [index for index, _ in rows]
    return pa.table(columns, schema=TYPED)
