"""Raw files in, accepted rows and dead letters out: the whole of parsing, for one batch of files."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from bikeflow.model import RawFile
from bikeflow.schema import ENCODED
from bikeflow.settings.sections import RulesSettings
from bikeflow.transform.columnar import Broken, parse
from bikeflow.transform.document import Document, Unreadable, count_records, read_document, records
from bikeflow.transform.recipe import recipe_of
from bikeflow.transform.rows import enhanced, impossible

_MAX_RAW_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One rejected line, in the fields of the contract; a whole unreadable file has `line_number` None."""

    source_key: str
    line_number: int | None
    raw_line: str
    column: str | None
    check: str
    value: str | None
    message: str


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What one raw file gave: `table` holds its accepted rows (columns `ENCODED`), in the order of its lines.

    The conservation law holds by construction and is checked again by `verify`: lines = rows + rejected.
    """

    raw: RawFile
    md5: str
    table: pa.Table
    lines: int
    rejected: int
    dead_letters: tuple[DeadLetter, ...]
    recipe: str
    unknown_columns: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of accepted lines."""
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class RawText:
    """A raw file's identity and its content as UTF-8; `md5` is that of the bytes in the store."""

    raw: RawFile
    md5: str
    text: bytes


def parse_files(files: Sequence[RawText], rules: RulesSettings) -> list[ParsedFile]:
    """Parse, type, validate, classify and flag all lines of the files; one result a file, in the same order."""
    parsed: dict[int, ParsedFile] = {}
    documents: list[Document] = []
    sources: list[int] = []
    recipe = recipe_of(rules)
    for index, file in enumerate(files):
        try:
            documents.append(read_document(file.raw.key, file.raw.time, file.raw.partition, file.text))
            sources.append(index)
        except Unreadable as error:
            parsed[index] = _unreadable(file, error, recipe)
    if documents:
        readable = [files[index] for index in sources]
        parsed.update(zip(sources, _parse_readable(readable, documents, rules, recipe), strict=True))
    return [parsed[index] for index in range(len(files))]


def dead_letter_lines(letters: Iterable[DeadLetter], rejected_at: dt.datetime) -> bytes:
    """The content of a dead-letter file: one JSON object a line."""
    stamp = rejected_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return b"".join(
        json.dumps({**asdict(letter), "rejected_at": stamp}, ensure_ascii=False).encode() + b"\n" for letter in letters
    )


def _parse_readable(
    files: Sequence[RawText], documents: Sequence[Document], rules: RulesSettings, recipe: str
) -> list[ParsedFile]:
    table, broken = parse(documents)
    letters: list[list[DeadLetter]] = [[] for _ in documents]
    for line in broken:
        letters[line.document].append(_broken(documents[line.document].source_key, line))
    refused = impossible(table)
    if refused:
        texts = _texts(table, [item.row for item in refused], documents)
        for row, (index, number, text) in zip(refused, texts, strict=True):
            key = documents[index].source_key
            letters[index].append(_letter(key, number, text, row.column, row.check, row.value, row.message))
        keep = np.ones(table.num_rows, dtype=bool)
        keep[[item.row for item in refused]] = False
        table = table.filter(pa.array(keep))
    counts = np.bincount(table["document"].to_numpy(), minlength=len(documents))
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows = enhanced(table, documents, rules)
    return [
        ParsedFile(
            raw=file.raw,
            md5=file.md5,
            table=rows.slice(int(starts[index]), int(counts[index])),
            lines=int(counts[index]) + len(letters[index]),
            rejected=len(letters[index]),
            dead_letters=tuple(sorted(letters[index], key=lambda letter: letter.line_number or 0)),
            recipe=recipe,
            unknown_columns=documents[index].header.extra,
        )
        for index, file in enumerate(files)
    ]


def _texts(table: pa.Table, rows: Sequence[int], documents: Sequence[Document]) -> list[tuple[int, int, str]]:
    """Document, line number and raw text of each of `rows`."""
    index, line = table["document"].to_numpy(), table["line"].to_numpy()
    texts: dict[int, dict[int, str]] = {}
    found: list[tuple[int, int, str]] = []
    for row in rows:
        at, number = int(index[row]), int(line[row])
        if at not in texts:
            texts[at] = {record.line_number: record.text for record in records(documents[at])}
        found.append((at, number, texts[at][number]))
    return found


def _letter(
    key: str, line: int | None, text: str, column: str | None, check: str, value: str | None, message: str
) -> DeadLetter:
    return DeadLetter(key, line, text[:_MAX_RAW_LINE], column, check, value and value[:_MAX_RAW_LINE], message)


def _broken(key: str, line: Broken) -> DeadLetter:
    record, reason = line.record, line.reason
    return _letter(key, record.line_number, record.text, reason.column, reason.check, reason.value, str(reason))


def _unreadable(file: RawText, error: Unreadable, recipe: str) -> ParsedFile:
    """A file that gives no rows: one dead letter stands for all of its lines."""
    text = file.text.decode()
    header = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
    letter = _letter(file.raw.key, None, header, error.column, error.check, None, str(error))
    lines = count_records(text)
    return ParsedFile(file.raw, file.md5, ENCODED.empty_table(), lines, lines, (letter,), recipe)
