"""Raw files in, accepted rows and dead letters out: the whole of parsing, for one batch of files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bikeflow.core.schema import ENCODED
from bikeflow.feeds.base import DeadLetter, ParsedFile, RawContent, RecordCount
from bikeflow.feeds.recipe import recipe_of
from bikeflow.feeds.wrm.columnar import Broken, parse
from bikeflow.feeds.wrm.document import Document, Unreadable, count_records, read_document, records
from bikeflow.feeds.wrm.rows import enhanced, impossible
from bikeflow.feeds.wrm.text import as_utf8
from bikeflow.settings.sections import RulesSettings

_MAX_RAW_LINE = 64 * 1024


def parse_files(files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
    """Parse, type, validate, classify and flag all lines of the files; one result a file, in the same order."""
    parsed: dict[int, ParsedFile] = {}
    documents: list[Document] = []
    sources: list[int] = []
    recipe = recipe_of(rules)
    for index, file in enumerate(files):
        try:
            documents.append(read_document(file.raw.key, file.raw.time, file.raw.partition.day, as_utf8(file.data)))
            sources.append(index)
        except Unreadable as error:
            parsed[index] = _unreadable(file, error, recipe)
    if documents:
        readable = [files[index] for index in sources]
        parsed.update(zip(sources, _parse_readable(readable, documents, rules, recipe), strict=True))
    return [parsed[index] for index in range(len(files))]


def count_lines(data: bytes) -> RecordCount:
    """Count the data lines of a raw file; of one whose header can't be used, its lines but the first."""
    text = as_utf8(data)
    try:
        document = read_document("", dt.datetime.min.replace(tzinfo=dt.UTC), dt.date.min, text)
    except Unreadable:
        return RecordCount(count_records(text.decode()), readable=False)
    return RecordCount(sum(1 for _ in records(document)), readable=True)


def _parse_readable(
    files: Sequence[RawContent], documents: Sequence[Document], rules: RulesSettings, recipe: str
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


def _unreadable(file: RawContent, error: Unreadable, recipe: str) -> ParsedFile:
    """A file that gives no rows: one dead letter stands for all of its lines."""
    text = as_utf8(file.data).decode()
    header = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
    letter = _letter(file.raw.key, None, header, error.column, error.check, None, str(error))
    lines = count_records(text)
    return ParsedFile(file.raw, file.md5, ENCODED.empty_table(), lines, lines, (letter,), recipe)
