"""Raw files in, accepted rows and dead letters out: the whole of parsing, for one batch of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bikeflow.core.schema import ENCODED
from bikeflow.feeds.base import DeadLetter, ParsedFile, RawContent, RecordCount
from bikeflow.feeds.recipe import recipe_of
from bikeflow.feeds.wrm.columnar import parse
from bikeflow.feeds.wrm.document import Document, Record, Rejected, read_document, records
from bikeflow.feeds.wrm.rows import enhanced, impossible
from bikeflow.feeds.wrm.text import as_utf8
from bikeflow.settings.sections import RulesSettings

_MAX_RAW_LINE = 64 * 1024


def parse_files(files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
    """Parse, type, validate, classify and flag all lines of the files; one result a file, in the same order."""
    recipe = recipe_of(rules)
    parsed: dict[int, ParsedFile] = {}
    documents: dict[int, Document] = {}
    for index, file in enumerate(files):
        text = as_utf8(file.data)
        try:
            documents[index] = read_document(text)
        except Rejected as reason:
            parsed[index] = _unreadable(file, text.decode(), reason, recipe)
    if documents:
        readable = [files[index] for index in documents]
        parsed.update(zip(documents, _parse_readable(readable, list(documents.values()), rules, recipe), strict=True))
    return [parsed[index] for index in range(len(files))]


def count_lines(data: bytes) -> RecordCount:
    """Count the data lines of a raw file; of one whose header can't be used, its lines but the first."""
    text = as_utf8(data)
    try:
        return RecordCount(sum(1 for _ in records(read_document(text))), readable=True)
    except Rejected:
        return RecordCount(_lines_but_the_first(text.decode()), readable=False)


def _parse_readable(
    files: Sequence[RawContent], documents: Sequence[Document], rules: RulesSettings, recipe: str
) -> list[ParsedFile]:
    table, rejected = parse(documents)
    refused = impossible(table)
    if refused:
        rejected.extend(_with_records(table, refused, documents))
        keep = np.ones(table.num_rows, dtype=bool)
        keep[[row for row, _ in refused]] = False
        table = table.filter(pa.array(keep))
    letters: list[list[DeadLetter]] = [[] for _ in files]
    for index, record, reason in sorted(rejected, key=lambda item: item[1].line_number):
        letters[index].append(_letter(files[index], record.line_number, record.text, reason))
    counts = np.bincount(table["document"].to_numpy(), minlength=len(files))
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows = enhanced(table, [file.raw for file in files], rules)
    return [
        ParsedFile(
            raw=file.raw,
            md5=file.md5,
            table=rows.slice(int(starts[index]), int(counts[index])),
            lines=int(counts[index]) + len(letters[index]),
            rejected=len(letters[index]),
            dead_letters=tuple(letters[index]),
            recipe=recipe,
            unknown_columns=documents[index].header.extra,
        )
        for index, file in enumerate(files)
    ]


def _with_records(
    table: pa.Table, refused: Sequence[tuple[int, Rejected]], documents: Sequence[Document]
) -> list[tuple[int, Record, Rejected]]:
    """The document and the record of each refused row."""
    document, line = table["document"].to_numpy(), table["line"].to_numpy()
    indices = {int(document[row]) for row, _ in refused}
    found = {index: {record.line_number: record for record in records(documents[index])} for index in indices}
    return [(int(document[row]), found[document[row]][line[row]], reason) for row, reason in refused]


def _letter(file: RawContent, line: int | None, text: str, reason: Rejected) -> DeadLetter:
    value = reason.value and reason.value[:_MAX_RAW_LINE]
    return DeadLetter(file.raw.key, line, text[:_MAX_RAW_LINE], reason.column, reason.check, value, str(reason))


def _unreadable(file: RawContent, text: str, reason: Rejected, recipe: str) -> ParsedFile:
    """A file that gives no rows: one dead letter stands for all of its lines."""
    header = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
    letter = _letter(file, None, header, reason)
    lines = _lines_but_the_first(text)
    return ParsedFile(file.raw, file.md5, ENCODED.empty_table(), lines, lines, (letter,), recipe)


def _lines_but_the_first(text: str) -> int:
    """The physical lines of a raw file whose header can't be used, blanks aside, but for the first."""
    return max(sum(1 for line in text.replace("\r", "\n").split("\n") if line) - 1, 0)
