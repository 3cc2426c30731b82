"""Many raw files at once: lines to typed columns with pyarrow.csv, ten times faster than line by line.

The fast path takes only lines of which it is sure (`lines` sorts them out), and the others go through `exact` one by
one. So do a hundred lines around whatever Arrow refuses: a refusal says neither which line nor why, and the dead
letters need both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from bikeflow.feeds.wrm.document import BATTERY, REAL, Document, Header, Record, Rejected, records
from bikeflow.feeds.wrm.exact import MICROSECONDS, typed
from bikeflow.feeds.wrm.lines import Lines, sort_out

_TEXT = pa.dictionary(pa.int32(), pa.string())
TYPED = pa.schema(
    [
        ("station_id", _TEXT),
        ("name", _TEXT),
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
        (BATTERY, _TEXT),
        ("line", pa.int64()),
        ("document", pa.int64()),
    ]
)
"""Typed rows: `line` is the physical line number, `document` the index of the file in its batch.

Texts repeat from file to file, so they are dictionaries as soon as they are read.
"""

_SECONDS, _FINER_SECONDS = pa.decimal128(38, 6), pa.decimal128(38, 16)
_LONGEST_SECONDS, _LONGEST_FINER_SECONDS = 30, 22
_FEW_LINES = 100
_BLOCK_BYTES = 16 << 20
"""More than a usual batch has: then each column is one chunk."""


class _Refused(Exception):
    """The fast path is not sure about this text."""


def parse(documents: Sequence[Document]) -> tuple[pa.Table, list[tuple[int, Record, Rejected]]]:
    """All lines of all documents: typed rows (columns `TYPED`) ordered by document and line.

    With them the lines that can't be typed, in no order: the index of the document, the line, and why.
    """
    tables: list[pa.Table] = []
    broken: list[tuple[int, Record, Rejected]] = []
    by_header: dict[Header, list[int]] = {}
    for index, document in enumerate(documents):
        by_header.setdefault(document.header, []).append(index)
    for header, indices in by_header.items():
        _parse_alike(documents, header, indices, tables, broken)
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    position = (table["document"].to_numpy() << 40) + table["line"].to_numpy()
    if (np.diff(position) < 0).any():
        table = table.take(pa.array(np.argsort(position)))
    return table, broken


def _parse_alike(
    documents: Sequence[Document],
    header: Header,
    indices: Sequence[int],
    tables: list[pa.Table],
    broken: list[tuple[int, Record, Rejected]],
) -> None:
    """Documents of one header: most lines all at once, the others one by one."""
    found = sort_out(documents, indices)
    careful = found.odd
    careful.extend((index, record) for index in found.tangled for record in records(documents[index]))
    _parse_plain(header, found.plain, tables, careful)
    rows: list[dict[str, object]] = []
    for index, record in careful:
        try:
            rows.append({**typed(record, header), "document": index})
        except Rejected as reason:
            broken.append((index, record, reason))
    tables.append(pa.Table.from_pylist(rows, TYPED))


def _parse_plain(header: Header, lines: Lines, tables: list[pa.Table], careful: list[tuple[int, Record]]) -> None:
    """All lines at once, or by halves until the ones that Arrow refuses are among few."""
    if not len(lines):
        return
    try:
        tables.append(_read(header, lines))
    except (_Refused, pa.ArrowInvalid):
        if len(lines) <= _FEW_LINES:
            careful.extend(lines.record(line) for line in range(len(lines)))
            return
        middle = len(lines) // 2
        for half in (slice(None, middle), slice(middle, None)):
            _parse_plain(header, lines.part(half), tables, careful)


def _read(header: Header, lines: Lines) -> pa.Table:
    wanted = {"0": _TEXT, "1": pa.string()}
    wanted.update({str(position): TYPED.field(name).type for name, position in header.positions})
    raw = pcsv.read_csv(
        pa.py_buffer(lines.text),
        read_options=pcsv.ReadOptions(
            column_names=[str(n) for n in range(header.width)], use_threads=False, block_size=_BLOCK_BYTES
        ),
        # Looking out for quotes takes time.
        parse_options=pcsv.ParseOptions(quote_char='"' if b'"' in lines.text else False),
        convert_options=pcsv.ConvertOptions(
            column_types=wanted,
            include_columns=list(wanted),
            null_values=[],
            strings_can_be_null=False,
            true_values=["true"],
            false_values=["false"],
        ),
    )
    if raw.num_rows != len(lines):
        raise _Refused
    raw = raw.unify_dictionaries()
    columns = {name: raw[str(position)] for name, position in header.positions}
    columns["station_id"] = raw["0"]
    columns.update(_unpack(raw["1"].combine_chunks()))
    if not all(np.isfinite(columns[name].to_numpy()).all() for name in REAL):
        raise _Refused
    columns.setdefault(BATTERY, pa.nulls(raw.num_rows, _TEXT))
    columns["line"] = pa.array(lines.number)
    columns["document"] = pa.array(lines.document)
    return pa.table([columns[name] for name in TYPED.names], schema=TYPED)


def _unpack(packed: pa.Array) -> dict[str, pa.Array]:
    """Split `seconds|diff|diff` in three; refuses what does not split or does not fit."""
    parts = pc.split_pattern(packed, "|", max_splits=1)
    if not pc.all(pc.equal(pc.list_value_length(parts), 2)).as_py():
        raise _Refused
    texts = parts.flatten()
    first = np.arange(0, len(texts), 2)
    microseconds = _microseconds(texts.take(pa.array(first)))
    # A feed has one or two time zones: a few distinct texts are split and cast instead of all.
    both = texts.take(pa.array(first + 1)).dictionary_encode()
    pairs = [text.split("|") for text in both.dictionary.to_pylist()]
    if any(len(pair) != 2 for pair in pairs):
        raise _Refused
    local, server = (pc.cast(pa.array(column, pa.string()), pa.int64()) for column in zip(*pairs, strict=True))
    return {
        "timestamp": pa.array(microseconds),
        "gmt_local_diff_sec": local.take(both.indices),
        "gmt_servertime_diff_sec": server.take(both.indices),
    }


def _microseconds(texts: pa.Array) -> npt.NDArray[np.int64]:
    """Seconds as microseconds, exactly: more than six decimals are rounded half to even, many more are refused.

    "1748699405.4711" is the decimal 1748699405.471100, which Arrow keeps as the 128-bit number 1748699405471100.
    """
    # Arrow silently overflows with a number of more digits than it can keep, and with some exponents.
    octets = np.frombuffer(texts.buffers()[2], np.uint8)
    longest = pc.max(pc.binary_length(texts)).as_py()
    if longest > _LONGEST_SECONDS or ((octets | 0x20) == ord("e")).any():
        raise _Refused
    try:
        seconds = pc.cast(texts, _SECONDS)
    except pa.ArrowInvalid:
        if longest > _LONGEST_FINER_SECONDS:
            raise _Refused from None
        seconds = pc.cast(pc.round(pc.cast(texts, _FINER_SECONDS), 6, "half_to_even"), _SECONDS)
    low, high = np.frombuffer(seconds.buffers()[1], np.int64, 2 * len(seconds)).reshape(-1, 2).T
    if (high != low >> 63).any() or (low < MICROSECONDS[0]).any() or (low > MICROSECONDS[-1]).any():
        raise _Refused
    return low
