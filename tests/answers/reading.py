"""Raw files read by plain Python: the WRM's text and GBFS archives, without any code of bikeflow."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import zipfile
from dataclasses import dataclass
from typing import Any

from tests.answers.places import Listing, Standing
from tests.answers.reference import Snapshot, State, microseconds
from tests.support import reference as wrm_lines

_KEY = re.compile(r".*/dt=(\d{4}-\d{2}-\d{2})/(?:.*_(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})|[a-z0-9]+)\.(txt|zip)")


@dataclass(frozen=True, slots=True)
class Record:
    """An accepted record; None is unknown."""

    kind: str
    id: str
    name: str | None
    lat: float | None
    lon: float | None
    state: State


@dataclass(frozen=True, slots=True)
class RawFile:
    """What a raw file says; `count` are all its records, also those that are rejected."""

    key: str
    folder: dt.date
    time: dt.datetime
    records: list[Record]
    count: int

    @property
    def snapshot(self) -> Snapshot:
        """What it says of stations."""
        stations = {one.id: one.state for one in self.records if one.kind == "station"}
        return Snapshot(self.key, self.folder, microseconds(self.time), stations)

    def listing(self, *, is_everywhere: bool) -> Listing[Standing]:
        """Where it says that stations and bikes are; the service area is that of Wrocław, or the whole world."""
        kinds: dict[str, list[Standing]] = {"station": [], "bike": [], "unknown": []}
        for one in self.records:
            inside = is_everywhere or _is_in_wroclaw(one.lat, one.lon)
            kinds[one.kind].append(Standing(one.lat, one.lon, one.state.bikes or 0, inside))
        return Listing(self.key, self.folder, microseconds(self.time), kinds["station"], kinds["bike"])


def read_raw(key: str, data: bytes, modified: float) -> RawFile:
    """Read a raw file by its key's ending; its time is the one in its name, else that of its last change."""
    match = _KEY.fullmatch(key)
    assert match is not None, key
    time = dt.datetime.fromtimestamp(modified, dt.UTC)
    if match[2]:
        time = dt.datetime.strptime(f"{match[2]} +0000", "%Y-%m-%d_%H-%M-%S %z")
    records, count = _wrm(data.decode()) if match[3] == "txt" else _gbfs(data)
    return RawFile(key, dt.date.fromisoformat(match[1]), time.replace(tzinfo=None), records, count)


def _is_in_wroclaw(lat: float | None, lon: float | None) -> bool:
    return lat is not None and 51.0 <= lat <= 51.25 and lon is not None and 16.75 <= lon <= 17.25


def _wrm(text: str) -> tuple[list[Record], int]:
    rows, rejected = wrm_lines.read(text)
    return [_wrm_record(row) for row in rows], len(rows) + len(rejected)


def _wrm_record(row: dict[str, Any]) -> Record:
    bike = row["name"].startswith("BIKE")
    kind = "station" if row["station_id"].isdecimal() and not bike else "bike" if bike else "unknown"
    state = State(row["bikes"], row["spaces"], row["total_docks"])
    return Record(kind, row["station_id"], row["name"], row["lat"], row["lon"], state)


def _gbfs(data: bytes) -> tuple[list[Record], int]:
    """Good documents only: of an id that is there twice, the first record is accepted."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        named = {name: json.loads(archive.read(name))["data"] for name in archive.namelist() if name != "snapshot.json"}
    about = {one["station_id"]: one for one in named.get("station_information.json", {}).get("stations", [])}
    stations = named.get("station_status.json", {}).get("stations", [])
    vehicles = named.get("free_bike_status.json", {}).get("bikes", [])
    records: dict[tuple[str, str], Record] = {}
    for one in stations:
        info = about.get(one["station_id"], {})
        state = State(_count(one, "num_bikes_available"), _count(one, "num_docks_available"), _count(info, "capacity"))
        record = Record("station", one["station_id"], info.get("name"), info.get("lat"), info.get("lon"), state)
        records.setdefault(("station", record.id), record)
    for one in vehicles:
        state = State(int(not (one["is_reserved"] or one["is_disabled"])), None, None)
        record = Record("bike", one["bike_id"], None, one.get("lat"), one.get("lon"), state)
        records.setdefault(("bike", record.id), record)
    return list(records.values()), len(stations) + len(vehicles)


def _count(record: dict[str, Any], name: str) -> int | None:
    value = record.get(name)
    return None if value == -1 else value
