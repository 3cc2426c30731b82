"""The conservation law for raw files, one batch at a time: data lines = rows + rejected lines.

It trusts neither the ledger nor the footers. Of a file that is parsed again, rows and dead letters are compared one by
one; of any other the content is, by its MD5, with the one that its rows were made of.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from bikeflow.core.layout import LAYERS, Layer
from bikeflow.core.model import FileRecord, RawFile
from bikeflow.feeds.base import DeadLetter, Format, RawContent
from bikeflow.feeds.recipe import rules_of
from bikeflow.segments.dead_letters import DROPPED, Letter, is_of_whole_file
from bikeflow.segments.table import collect
from bikeflow.settings.sections import RulesSettings
from bikeflow.verifier.fingerprints import NOTHING, Fingerprint, of_table

_FIELDS = tuple(field.name for field in fields(DeadLetter))
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a fresh parse of a raw file gives."""

    rows: Mapping[Layer, Fingerprint]
    letters: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class Case:
    """A raw file, and all that the lake holds of it: rows, `records` in footers, dead letters (None: no such file).

    `fact` is what footers and the database should tell of it, but for the recipe. `unnamed` tells that a footer lacks
    it, `chosen` that it was chosen to be parsed again.
    """

    raw: RawFile
    data: bytes
    fact: FileRecord
    readable: bool
    rows: Mapping[Layer, Fingerprint]
    records: Sequence[FileRecord]
    unnamed: bool
    letters: Sequence[Letter] | None
    chosen: bool

    @property
    def recipe(self) -> str:
        """The rules that its rows were flagged by, as the footer names them."""
        return self.records[0].recipe if self.records else ""


def parse_again(cases: Sequence[Case], raw_format: Format, rules: RulesSettings) -> dict[str, Parsed]:
    """Parse the raw files that were chosen, and those with dead letters, which nothing else can check; results by key.

    Each is parsed under the rules that its rows were flagged by, as far as they are known.
    """
    groups: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.chosen or case.letters is not None or not case.readable:
            groups[case.recipe].append(case)
    results: dict[str, Parsed] = {}
    for recipe, some in groups.items():
        parsed = raw_format.parse(
            [RawContent(case.raw, case.fact.md5, case.data) for case in some], rules_of(recipe) or rules
        )
        table = collect(parsed).table
        found = {layer: of_table(table, layer) for layer in LAYERS}
        for result in parsed:
            key = result.raw.key
            results[key] = Parsed({layer: found[layer].get(key, NOTHING) for layer in LAYERS}, result.dead_letters)
    return results


def faults(case: Case, parsed: Parsed | None) -> Iterator[tuple[str, str]]:
    """What does not add up, by kind and message."""
    lines, rows, rejected = case.fact.lines, case.fact.rows, case.fact.rejected
    processed, enhanced = (case.rows[layer] for layer in LAYERS)
    if processed.rows == rows == 0 and case.letters is None and (lines or not case.readable):
        yield "not_processed", f"{lines} lines, but no row and no dead letter"
    elif processed.rows != rows:
        yield "layers_differ", f"{processed.rows} rows in processed, {rows} in enhanced"
    elif processed.common != enhanced.common:
        yield "layers_differ", f"its {rows} rows have other values in processed than in enhanced"
    elif lines != rows + rejected:
        yield "not_conserved", f"{lines} lines, but {rows} rows and {rejected} rejected"
    elif any(record.md5 != case.fact.md5 for record in case.records):
        yield "raw_differs", "its content is not the one that its rows were made of, by the MD5 in their footer"
    else:
        yield from _footer_faults(case)
        if parsed is not None:
            yield from _differences(case, parsed)


def _footer_faults(case: Case) -> Iterator[tuple[str, str]]:
    told = [replace(record, recipe="") for record in case.records]
    if len(told) > 1:
        yield "wrong_footer", f"{len(told)} footers name it"
    elif told and told[0] != case.fact:
        yield "wrong_footer", f"its footer says {told[0]}, but it is {case.fact}"
    elif case.unnamed:
        yield "wrong_footer", "the footer of its segment does not name it"


def _differences(case: Case, parsed: Parsed) -> Iterator[tuple[str, str]]:
    """Where the lake differs from a fresh parse; flags and messages count only where the rules are known."""
    comparable = not case.records or rules_of(case.recipe) is not None
    for layer in LAYERS:
        found, fresh = case.rows[layer], parsed.rows[layer]
        if found != fresh and (comparable or (found.rows, found.unflagged) != (fresh.rows, fresh.unflagged)):
            yield "rows_differ", f"its rows in {layer} are not those of a fresh parse"
    same_words = bool(case.records) and comparable
    fault = letters_fault(case.letters or (), parsed.letters, case.fact.lines, same_words=same_words)
    if fault is not None:
        yield "letters_differ", fault


def read_strictly(data: bytes) -> list[Letter]:
    """The letters of a file; raises ValueError where they are not what we write."""
    letters = [json.loads(line) for line in data.decode().split("\n")[:-1]]
    if not letters or not data.endswith(b"\n"):
        raise ValueError("it is empty, or its last line has no end")
    for number, letter in enumerate(letters, start=1):
        if not isinstance(letter, dict):
            raise ValueError(f"line {number} is no object")
        wanted = {*_FIELDS, "rejected_at"} | ({DROPPED} if letter.get("check") == DROPPED else set())
        if letter.keys() != wanted:
            raise ValueError(f"line {number} does not have the fields of a dead letter")
        if not _is_time(letter["rejected_at"]):
            raise ValueError(f"line {number}: rejected_at is no time")
    return letters


def letters_fault(
    letters: Sequence[Letter], fresh: Sequence[DeadLetter], lines: int, *, same_words: bool
) -> str | None:
    """What is wrong with a raw file's letters; None where each is as it should be, or was dropped and counted.

    `fresh` are those of a fresh parse, `lines` the file's data lines. `same_words` is false where another version may
    have written them, with other words in their messages.
    """
    ignored = set() if same_words else {"message"}
    expected = [{name: value for name, value in asdict(letter).items() if name not in ignored} for letter in fresh]
    found = [
        {name: letter[name] for name in _FIELDS if name not in ignored}
        for letter in letters
        if letter["check"] != DROPPED
    ]
    remaining = iter(expected)
    for letter in found:
        if letter not in remaining:  # an iterator: letters keep their order, and each is used once
            return f"the letter of line {letter['line_number'] or 'none'} is not that of a fresh parse"
    summaries = [letter for letter in letters if letter["check"] == DROPPED]
    missing = [letter for letter in expected if letter not in found]
    dropped = sum(lines if is_of_whole_file(letter) else 1 for letter in missing)
    if dropped != sum(letter[DROPPED] for letter in summaries) or bool(missing) != bool(summaries):
        return f"{len(missing)} dead letters are missing, and not dropped"
    return None


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(_STAMP.fullmatch(text)) and bool(dt.datetime.fromisoformat(text))
    except ValueError:
        return False
