"""What stands in the simulated city: stations and free-floating bikes, each a function of the world's time.

World times are seconds since the epoch; stamps, which only appear in the output, are microseconds since the epoch.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bikeflow.simulator.chance import draws
from bikeflow.simulator.gazetteer import Place, around
from bikeflow.simulator.rhythm import HOUR, Area, busy, tide
from bikeflow.simulator.rhythm import world as world_time

# Of its stays a free bike spends this share where the feed shows it, the others in a dock; a ride leads to each.
_SHOWN_STAYS = 0.6
_LONGEST_RIDE_SECONDS = 1_500
STAY_SECONDS = (2 * HOUR, 6 * HOUR)
# The share of all its time that the feed shows it: the above, less the rides.
MEAN_SHOWN = 0.566
# Of the bikes with a battery, one in so many does not tell its charge.
_SILENT_BATTERIES = 16


@dataclass(frozen=True, slots=True)
class Station:
    """A docking station; where `swell` is above 1, people lock up to that many bikes per dock.

    `pedelecs` is how many of its bikes are electric, as long as there are that many; `broken` docks take no bike.
    From its area's rhythm it departs by `lean`, a lasting share of docks more or less, `lag_seconds`, by which the tide
    comes later, and `swings`, the ups and downs of single customers: (share of docks, period in busy seconds, phase in
    radians).
    """

    id: str
    name: str
    place: Place
    area: Area
    docks: int
    pedelecs: int
    lean: float
    lag_seconds: float
    swings: tuple[tuple[float, float, float], ...]
    swell: float
    broken: int

    def bikes(self, world: float) -> int:
        """How many bikes stand here."""
        share = self.lean + tide(self.area, world - self.lag_seconds)
        busy_time = busy(world)
        for size, period, phase in self.swings:
            share += size * math.sin(math.tau * busy_time / period + phase)
        most = int(self.docks * self.swell)
        return min(max(int(share * (most + 1)), 0), most)

    def line(self, stamp: int, world: float) -> str:
        """The station's line of the feed, without line end."""
        bikes = self.bikes(world)
        # The real feed never says that there is no space: one is the least, however many bikes stand there.
        spaces = max(self.docks - self.broken - bikes, 1)
        name, (lat, lon) = _quoted(self.name), self.place
        pedelecs = min(self.pedelecs, bikes)
        return (
            f"{self.id},{packed(stamp)},{name},{lat},{lon},{bikes},{spaces},true,false,false,{self.docks},"
            f"false,{pedelecs}"
        )


@dataclass(frozen=True, slots=True)
class FreeBike:
    """A bike that is left anywhere: it stays near one of `anchors` for `stay_seconds`, then is ridden to the next.

    `stay_seconds` is busy time, as hardly anybody takes a bike at night. A pedelec's battery is changed every
    `charge_seconds`; other bikes (0) report none.
    """

    seed: int
    number: int
    anchors: Sequence[Place]
    roam_km: float
    stay_seconds: float
    charge_seconds: float

    @property
    def id(self) -> str:
        """Its id in the feed."""
        return f"fb{self.number}"

    def line(self, stamp: int, world: float) -> str | None:
        """The bike's line of the feed, without line end; None while it is ridden or stands in a dock."""
        # The bike's own number keeps the fleet out of step.
        number = (busy(world) + self.number * 977) // self.stay_seconds
        taken = world_time(number * self.stay_seconds - self.number * 977)
        shown, ride, anchor, distance, turn, *_ = draws(self.seed, f"bike {self.number}", int(number))
        if shown >= _SHOWN_STAYS or world - taken < ride * _LONGEST_RIDE_SECONDS:
            return None
        lat, lon = around(self.anchors[int(anchor * len(self.anchors))], self.roam_km * distance, turn)
        battery, pedelecs = self.battery(world), int(self.charge_seconds > 0)
        return f"{self.id},{packed(stamp)},BIKE {self.number},{lat},{lon},1,0,true,false,true,1,{battery},{pedelecs}"

    def battery(self, world: float) -> int:
        """The battery's charge in per cent, -1 where there is none to report."""
        if not self.charge_seconds or self.number % _SILENT_BATTERIES == 0:
            return -1
        used = (world + self.number * 7_919) % self.charge_seconds / self.charge_seconds
        return int(100 - 95 * used)


def packed(stamp: int) -> str:
    """The feed's second field; like the real one it drops the zeros at the end of the fraction."""
    return f"{stamp / 1e6!r}|-7200|-3600"


def _quoted(name: str) -> str:
    """The name as a CSV field."""
    if not {'"', ","} & set(name):
        return name
    field = io.StringIO()
    csv.writer(field, lineterminator="").writerow([name])
    return field.getvalue()
