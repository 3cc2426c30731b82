"""Recorded histories of GBFS systems, as bikeflow's fetcher would have left them in the lake, and one made up."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bikeflow.feeds.gbfs.container import Document, Lasting, fingerprint, pack
from tests.answers.lake import Lake
from tests.support.gbfs import REAL, history

_STAMPS = {"api_dump_%Y-%m-%d_%H-%M-%S.json", "free_bike_status_%Y%m%dT%H%M%SZ.json"}
MADE_SINCE = dt.datetime(2022, 3, 12, 22, tzinfo=dt.UTC)


@dataclass(frozen=True)
class History:
    """A document of states poll by poll, and the one about its stations; where on earth, and how often it was asked."""

    name: str
    document: str
    polls: list[tuple[dt.datetime, bytes]]
    information: bytes | None
    zone: str
    interval_seconds: float

    def lake(self, folder: Path) -> Lake:
        """A lake with a raw object for each poll that saw something new, and the record of polls."""
        lake, known, former = Lake(folder, self.zone, "gbfs", self.name), Lasting(), ""
        for at, body in self.polls:
            data = packed({self.document: body, "station_information": self.information}, at)
            found = fingerprint(data, known)
            if found == former:
                lake.poll(at, "unchanged", self.interval_seconds)
            else:
                lake.put(lake.key(at), data)
                lake.poll(at, "stored", self.interval_seconds, lake.key(at))
            former = found
        return lake


def packed(bodies: Mapping[str, bytes | None], at: dt.datetime) -> bytes:
    """The raw object of these documents, fetched at this time."""
    stamp = at.isoformat().replace("+00:00", "Z")
    return pack(
        Document(name, f"https://feed.example/{name}.json", body, fetched_at=stamp, checked_at=stamp, status=200)
        for name, body in bodies.items()
        if body is not None
    )


def histories(most_polls: int) -> Iterator[History]:
    """One that is made up, and those recordings that this machine has; of each the first polls."""
    yield made_up(min(most_polls, 300))
    about = {"bcycle_boulder": REAL.parent / "history/bcycle_boulder/station_information.json",
             "wienmobil": REAL / "wienmobil_nextbike_wr/2.3/station_information.json"}  # fmt: skip
    for name, document, zone, interval_seconds in (
        ("bcycle_boulder", "station_status", "America/Denver", 61),
        ("wienmobil", "station_status", "Europe/Vienna", 600),
        ("tier_wolfsburg", "free_bike_status", "Europe/Berlin", 600),
    ):
        polls = sorted((_time(path), body) for path, body in history(name)[:most_polls])
        if polls:
            information = about[name].read_bytes() if name in about else None
            yield History(name, document, polls, information, zone, interval_seconds)


def _time(path: str) -> dt.datetime:
    name = Path(path).name
    if re.fullmatch(r"\d+\.json", name):
        return dt.datetime.fromtimestamp(int(name.removesuffix(".json")), dt.UTC)
    for form in _STAMPS:
        try:
            return dt.datetime.strptime(f"{name} +0000", f"{form} %z")
        except ValueError:
            continue
    raise ValueError(path)


def made_up(count: int) -> History:
    """Eight stations, one of which comes later; empty documents, unknown counts, repeated records, and a gap."""
    chance, now = random.Random(1), MADE_SINCE
    bikes = {f"s{number}": number for number in range(8)}
    information = [
        {"station_id": key, "name": f"Corner {key}", "lat": 40.0, "lon": -105.2, "capacity": 6} for key in bikes
    ]
    polls = []
    for number in range(count):
        bikes = {key: min(max(value + chance.choice([-1, *5 * [0], 1]), 0), 7) for key, value in bikes.items()}
        stations = [
            {"station_id": key, "num_bikes_available": value, "num_docks_available": max(6 - value, 0)}
            for key, value in bikes.items()
            if key != "s7" or number > count // 3
        ]
        stations[chance.randrange(7)] |= {"num_bikes_available": -1} if chance.random() < 0.1 else {}
        stations += [dict(stations[0], num_bikes_available=5)] * (chance.random() < 0.1)
        stations = [] if chance.random() < 0.05 else stations
        body = {"last_updated": round(now.timestamp()), "ttl": 60, "data": {"stations": stations}}
        polls.append((now, json.dumps(body).encode()))
        now += dt.timedelta(seconds=11_000 if number == count // 2 else chance.choice([60, 61, 62, 70]))
    data = json.dumps({"last_updated": 0, "ttl": 60, "data": {"stations": information}}).encode()
    return History("made_up", "station_status", polls, data, "America/Denver", 61)
