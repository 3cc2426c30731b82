"""How query results are written: as a table for people, or as CSV, JSON and Parquet, row by row as they come."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import math
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLE_ROWS = 60
TABLE_CELL_CHARACTERS = 48
_WRAPPED_COLUMNS = 3
"""So few columns may be as long as they are: they wrap. Of more, cells are cut and the last columns left out."""
_PIPE_COLUMNS = 160
_BATCH_ROWS = 10_000
_NUMERIC = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL"}
_CONTROL_CODES = (*range(0x20), *range(0x7F, 0xA0))
_CONTROLS = dict.fromkeys(_CONTROL_CODES, "\N{REPLACEMENT CHARACTER}")
# JSON's way to write them, so that JSON stays JSON
_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROL_CODES if code != 0x0A}
_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class _Terminal:
    """Shows control characters instead of sending them to a terminal, which would obey them."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(printable(text))


def printable(text: str) -> str:
    """The text with its control characters, other than line feeds, written as JSON writes them."""
    return text.translate(_ESCAPES)


def echo(text: str) -> None:
    """Print a line; control characters do not reach a terminal, and go unchanged into a file or pipe."""
    typer.echo(printable(text) if sys.stdout.isatty() else text)


def echo_json(document: object, indent: int | None = None) -> None:
    """Print a JSON document, as `echo` does."""
    echo(json.dumps(document, ensure_ascii=False, indent=indent, default=str))


def fail_of_partitions(failed: Mapping[str, str]) -> None:
    """Tell of partitions whose run has failed, with the reasons; exit code 1 where there are any."""
    for partition, error in failed.items():
        typer.echo(f"error: {partition}: {printable(error)}", err=True)
    if failed:
        raise typer.Exit(1)


def tell_missing(count: int) -> None:
    """Tell of raw files that could not be processed, as they are missing from the store."""
    if count:
        typer.echo(f"{count:,} raw files are missing from the store: their rows and dead letters are kept as they are")


def write_csv(result: DuckDBPyConnection, file: IO[str], *, formulas: bool = True) -> None:
    """CSV with a header; null is empty, lists and structs are JSON.

    Without `formulas`, texts that a spreadsheet would compute begin with an apostrophe.
    """
    target = _Terminal(file) if file.isatty() else file
    writer = csv.writer(target, lineterminator="\n")
    # csv quotes a carriage return only where it is part of the line's end
    careful = csv.writer(target, lineterminator="\n", quoting=csv.QUOTE_ALL)
    text = _text if formulas else _plain_text
    writer.writerow([text(name) for name in _names(result)])
    for rows in _batches(result):
        for row in rows:
            cells = ["" if value is None else text(value) for value in row]
            (careful if any("\r" in cell for cell in cells) else writer).writerow(cells)


def write_json(result: DuckDBPyConnection, file: IO[str]) -> None:
    """One array with an object for each row, on a line of its own."""
    write = _Terminal(file).write if file.isatty() else file.write
    names, begin = _names(result), "["
    for rows in _batches(result):
        for row in rows:
            write(begin + "\n" + _json(dict(zip(names, row, strict=True))))
            begin = ","
    write("[]\n" if begin == "[" else "\n]\n")


def objects(result: DuckDBPyConnection) -> list[dict[str, Any]]:
    """All rows as JSON objects."""
    names = _names(result)
    return [{name: _plain(value) for name, value in zip(names, row, strict=True)} for row in result.fetchall()]


def write_parquet(result: DuckDBPyConnection, file: IO[str]) -> None:
    """Parquet with DuckDB's own types, compressed with zstd."""
    import pyarrow.parquet as pq

    with warnings.catch_warnings():
        # DuckDB 2.0 would rather run the query again
        warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
        batches = result.to_arrow_reader(_BATCH_ROWS * 10)
    with pq.ParquetWriter(file.buffer, batches.schema, compression="zstd") as writer:  # type: ignore[attr-defined]
        for batch in batches:
            writer.write_batch(batch)


def write_table(result: DuckDBPyConnection, file: IO[str]) -> None:
    """A table no wider than the terminal and no longer than `TABLE_ROWS`, which says what it leaves out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size((_PIPE_COLUMNS, 0)).columns if file.isatty() else _PIPE_COLUMNS
    names = _names(result)
    if names == ["explain_key", "explain_value"]:  # DuckDB has drawn it already
        plans = (f"{value}\n" for _, value in result.fetchall())
        file.writelines(map(printable, plans) if file.isatty() else plans)
        return
    names = [name.translate(_CONTROLS) for name in names]
    numeric = [str(column[1]).partition("(")[0] in _NUMERIC for column in result.description or ()]
    rows = result.fetchmany(TABLE_ROWS + 1)
    few = len(names) <= _WRAPPED_COLUMNS
    cells = [["" if value is None else _cell(value, cut=not few) for value in row] for row in rows[:TABLE_ROWS]]
    shown = len(names) if few else _fitting(names, cells, width)
    table = Table(header_style="bold")
    for name, right in zip(names[:shown], numeric, strict=False):
        # a name in the feed is data, never markup
        table.add_column(Text(name), justify="right" if right else "left", no_wrap=not few)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row[:shown]))
    console = Console(file=file, width=width, highlight=False)
    console.print(table)
    notes = [f"{len(rows)} row{'' if len(rows) == 1 else 's'}"]
    if len(rows) > TABLE_ROWS:
        notes = [f"the first {TABLE_ROWS} rows are shown; --format csv gives all"]
    if shown < len(names):
        notes.append(f"{len(names) - shown} more columns do not fit: {', '.join(names[shown:])}")
    for note in notes:
        console.print(Text(note), soft_wrap=True)


def _fitting(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> int:
    """How many columns, from the left, fit into the width: at least one."""
    used = 1
    for number, name in enumerate(names):
        used += max([len(name), *(len(row[number]) for row in cells)]) + 3
        if used > width:
            return max(number, 1)
    return len(names)


def _names(result: DuckDBPyConnection) -> list[str]:
    return [str(column[0]) for column in result.description or ()]


def _batches(result: DuckDBPyConnection) -> Iterator[list[Any]]:
    while rows := result.fetchmany(_BATCH_ROWS):
        yield rows


def _cell(value: object, *, cut: bool) -> str:
    text = _text(value).translate(_CONTROLS)
    return f"{text[: TABLE_CELL_CHARACTERS - 1]}…" if cut and len(text) > TABLE_CELL_CHARACTERS else text


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, list | tuple | dict):
        return _json(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _plain_text(value: object) -> str:
    """The text of a value, which no spreadsheet takes for a formula; a number in a text stays one."""
    text = _text(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _json(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    """The JSON value for a DuckDB value: times in ISO 8601, what is no finite number as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | decimal.Decimal):
        return float(value) if math.isfinite(value) else None  # JSON has no NaN
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
