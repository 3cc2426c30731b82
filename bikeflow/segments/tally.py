"""What was odd in parsed files: counts for metrics and quality reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.compute as pc

from bikeflow.feeds.base import ParsedFile


@dataclass(frozen=True, slots=True)
class Tally:
    """Rejected lines by the check that they failed, and flags by name; a row can have several flags.

    `lettered` are the raw files with dead letters, `drifted` names the unknown columns of those that have some.
    """

    rejected: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    lettered: set[str] = field(default_factory=set)
    drifted: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Count what another tally has counted as well."""
        self.rejected.update(other.rejected)
        self.flagged.update(other.flagged)
        self.lettered.update(other.lettered)
        self.drifted.update(other.drifted)


def tally(parsed: Iterable[ParsedFile]) -> Tally:
    """Count over parsed files; the rejected ones add up to the files' own numbers of rejected lines."""
    counts = Tally()
    for item in parsed:
        if item.dead_letters:
            counts.lettered.add(item.raw.key)
        if item.unknown_columns:
            counts.drifted[item.raw.key] = tuple(sorted(item.unknown_columns))
        for letter in item.dead_letters:
            # one dead letter stands for all lines of a file that can't be read at all
            counts.rejected[letter.check] += item.rejected if letter.line_number is None else 1
        flags = pc.value_counts(pc.list_flatten(item.table["quality_flags"]))
        counts.flagged.update({flag["values"]: flag["counts"] for flag in flags.to_pylist()})
    return counts
