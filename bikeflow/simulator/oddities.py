"""What is odd in the real feed, at rates that a demo can show: odd rows, lines that get rejected, odd documents."""

from __future__ import annotations

from dataclasses import dataclass

# The fields of a line from `lat` on; no comma can stand in them, so that they can be split off from the right.
_FIELDS_FROM_LAT = 10
_LAT, _BIKES, _SPACES = 0, 2, 3


@dataclass(frozen=True, slots=True)
class Oddities:
    """How much is odd; each share is 0–1, and none changes anything else of the city.

    - `over_capacity`: share of the stations where people lock more bikes than there are docks (flag `over_capacity`
      while they do; at any moment these are a fifth of the real stations).
    - `broken`: share of the stations with a broken dock: bikes and spaces together are fewer than the docks.
    - `abroad`: share of the free bikes that stand in a depot in Warsaw (flag `outside_service_area`).
    - `stale`: share of the stations whose terminal last reported two to three days ago (flag `stale_timestamp`); time
      and counts stand still until midnight UTC.
    - `malformed`: share of the snapshots with one line that no reader can accept (one dead letter): a field too few,
      a count like `5+`, a latitude beyond the pole, an id that comes twice, or a last line cut off in the middle.
    - `empty`: share of the snapshots that are a header and nothing else.
    - `wrong_clock`: share of the snapshots whose times are all wrong, by an hour, a day or years.
    """

    over_capacity: float = 0.35
    broken: float = 0.03
    abroad: float = 0.05
    stale: float = 0.004
    malformed: float = 0.025
    empty: float = 0.003
    wrong_clock: float = 0.003


NO_ODDITIES = Oddities(over_capacity=0, broken=0, abroad=0, stale=0, malformed=0, empty=0, wrong_clock=0)
CLOCK_ERRORS_US = tuple(seconds * 1_000_000 for seconds in (-3_600, 3_600, -86_400, 86_400, 8 * 365 * 86_400))
"""A change of daylight saving made too early, late or twice, a day lost or gained, and a wrong year."""


def malform(lines: list[str], kind: float, where: float) -> None:
    """Break one of a document's data lines (with their ends) in place; `kind` and `where`, in [0, 1), choose."""
    index = int(where * len(lines))
    head, *fields = lines[index].rsplit(",", _FIELDS_FROM_LAT)
    match int(kind * 5):
        case 0:
            del fields[_SPACES]
        case 1:
            fields[_BIKES] += "+"
        case 2:
            fields[_LAT] = f"1{fields[_LAT]}"
        case 3:
            lines.append(lines[index])
        case _:
            lines[-1] = lines[-1][: len(lines[-1]) // 2]
            return
    lines[index] = ",".join([head, *fields])
