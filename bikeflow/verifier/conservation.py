"""The conservation law for raw files, one batch at a time: data lines = rows + rejected lines.

It trusts neither the ledger nor the footers. Of a file that is parsed again, rows and dead letters are compared one by
one; of any other the content is, by its MD5, with the one that its rows were made of.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bikeflow.feeds.text import as_utf8
from bikeflow.layout import LAYERS, Layer
from bikeflow.model import RawFile
from bikeflow.settings.sections import RulesSettings
from bikeflow.transform.dead_letters import Letter, rejected_lines
from bikeflow.transform.document import Unreadable, count_records, read_document, records
from bikeflow.transform.footer import FileRecord
from bikeflow.transform.parsing import ParsedFile, RawText, parse_files
from bikeflow.transform.recipe import recipe_of, rules_of
from bikeflow.transform.segment import collect
from bikeflow.verifier.fingerprints import NOTHING, Fingerprint, of_table
from bikeflow.verifier.letters import letters_fault


@dataclass(slots=True)
class Case:
    """A raw file, and all that there is of it: `letters` is None where there are none, `records` are the footers'.

    `unnamed` tells that a footer lacks it. `lines` to `findings`, pairs of kind and message, are found by `examine`.
    """

    raw: RawFile
    data: bytes
    rows: dict[Layer, Fingerprint]
    records: Sequence[FileRecord]
    unnamed: bool
    letters: Sequence[Letter] | None
    parse: bool
    text: bytes = b""
    md5: str = ""
    lines: int = 0
    readable: bool = True
    rejected: int = 0
    other_rules: bool = False
    parsed: ParsedFile | None = None
    fresh: dict[Layer, Fingerprint] = field(default_factory=dict)
    findings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def recipe(self) -> str:
        """What the footer tells of the rules that its rows were flagged by."""
        return self.records[0].recipe if self.records else ""

    @property
    def facts(self) -> tuple[int, str, int, int, int]:
        """What the database should tell of it: size, MD5, lines, rows, rejected lines."""
        return len(self.data), self.md5, self.lines, self.rows["enhanced"].rows, self.rejected


def examine(cases: Sequence[Case], rules: RulesSettings) -> None:
    """Count and compare, all that takes time."""
    for case in cases:
        _count(case)
        case.other_rules = bool(case.rows["enhanced"].rows) and case.recipe != recipe_of(rules)
    _parse_again([case for case in cases if _is_to_be_parsed(case)], rules)
    for case in cases:
        case.findings = list(_judge(case))


def _count(case: Case) -> None:
    raw = case.raw
    case.md5 = hashlib.md5(case.data, usedforsecurity=False).hexdigest()
    case.text = as_utf8(case.data)
    try:
        case.lines = sum(1 for _ in records(read_document(raw.key, raw.time, raw.partition, case.text)))
    except Unreadable:
        case.lines, case.readable = count_records(case.text.decode()), False
    case.rejected = rejected_lines(case.letters or (), case.lines)


def _is_to_be_parsed(case: Case) -> bool:
    """Dead letters can only be told by a parse; the others are those that were chosen."""
    return case.parse or case.letters is not None or not case.readable


def _parse_again(cases: Sequence[Case], rules: RulesSettings) -> None:
    """All at once, and each under the rules that its rows were flagged by, as far as they are known."""
    groups: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.recipe].append(case)
    for recipe, some in groups.items():
        parsed = parse_files([RawText(case.raw, case.md5, case.text) for case in some], rules_of(recipe) or rules)
        table = collect(parsed).table
        found = {layer: of_table(table, layer) for layer in LAYERS}
        for case, result in zip(some, parsed, strict=True):
            case.parsed = result
            case.fresh = {layer: found[layer].get(case.raw.key, NOTHING) for layer in LAYERS}


def _judge(case: Case) -> Iterator[tuple[str, str]]:
    processed, enhanced = (case.rows[layer].rows for layer in LAYERS)
    if processed == enhanced == 0 and case.letters is None and (case.lines or not case.readable):
        yield "not_processed", f"{case.lines} lines, but no row and no dead letter"
    elif processed != enhanced:
        yield "layers_differ", f"{processed} rows in processed, {enhanced} in enhanced"
    elif case.rows["processed"].common != case.rows["enhanced"].common:
        yield "layers_differ", f"its {enhanced} rows have other values in processed than in enhanced"
    elif case.lines != enhanced + case.rejected:
        yield "not_conserved", f"{case.lines} lines, but {enhanced} rows and {case.rejected} rejected"
    elif any(record.md5 != case.md5 for record in case.records):
        yield "raw_differs", "its content is not the one that its rows were made of, by the MD5 in their footer"
    else:
        yield from _compare_records(case)
        yield from _compare_parsed(case)


def _compare_records(case: Case) -> Iterator[tuple[str, str]]:
    counted = (len(case.data), case.lines, case.rejected)
    told = [(record.size, record.lines, record.rejected) for record in case.records]
    if len(told) > 1:
        yield "wrong_footer", f"{len(told)} footers name it"
    elif told and told[0] != counted:
        told_text, counted_text = ("{} bytes, {} lines, {} rejected".format(*item) for item in (told[0], counted))
        yield "wrong_footer", f"its footer tells of {told_text}, but there are {counted_text}"
    elif case.unnamed:
        yield "wrong_footer", "the footer of its segment does not name it"


def _compare_parsed(case: Case) -> Iterator[tuple[str, str]]:
    if case.parsed is None:
        return
    comparable = not case.records or rules_of(case.recipe) is not None
    for layer in LAYERS:
        found, fresh = case.rows[layer], case.fresh[layer]
        if found != fresh and (comparable or (found.rows, found.unflagged) != (fresh.rows, fresh.unflagged)):
            yield "rows_differ", f"its rows in {layer} are not those of a fresh parse"
    same_words = bool(case.records) and comparable
    fault = letters_fault(case.letters or (), case.parsed.dead_letters, case.lines, same_words=same_words)
    if fault is not None:
        yield "letters_differ", fault
