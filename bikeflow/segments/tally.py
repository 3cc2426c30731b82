"""Why lines were rejected, and rows flagged: counts for metrics and quality reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.compute as pc

from bikeflow.feeds.wrm.parsing import ParsedFile


@dataclass(frozen=True, slots=True)
class Tally:
    """Rejected lines by the check that they failed, and flags by name; a row can have several flags."""

    rejected: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count what another tally has counted as well."""
        self.rejected.update(other.rejected)
        self.flagged.update(other.flagged)


def tally(parsed: Iterable[ParsedFile]) -> Tally:
    """Count over parsed files; the rejected ones add up to the files' own numbers of rejected lines."""
    counts = Tally()
    for item in parsed:
        for letter in item.dead_letters:
            # one dead letter stands for all lines of a file that can't be read at all
            counts.rejected[letter.check] += item.rejected if letter.line_number is None else 1
        flags = pc.value_counts(pc.list_flatten(item.table["quality_flags"]))
        counts.flagged.update({flag["values"]: flag["counts"] for flag in flags.to_pylist()})
    return counts
