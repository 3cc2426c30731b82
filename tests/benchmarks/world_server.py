"""`python -m tests.benchmarks.world_server SYSTEMS`: a made-up world of GBFS systems on loopback, in its own process.

It prints the `[[systems]]` tables as one line of JSON, serves until SIGTERM, and then prints what it has served.
Sizes are those of real recordings (`world_sizes.csv`), versions and hosts are shared as in MobilityData's catalogue of
1,520 systems.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import gzip
import hashlib
import json
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from bikeflow.simulator.rhythm import PACE

VERSIONS = {"2.3": 722, "3.0": 558, "2.2": 195, "1.1": 44}
"""Systems of the catalogue by the newest version that they list."""
HOSTS = [347, 203, 180, 124, 90, 57, 45, 41, 38, 36, 36, 28, *[2.44] * 121]
"""Systems of the catalogue by host: a few hosts have most of them."""
STEP_SECONDS = 60.0
"""From one change of a system's state to the next."""
BUSIEST = 0.12
"""The share of its stations, and of its vehicles, that a system changes in a step of mean pace."""
GZIPPED, REPORTING = 0.6, 0.3
"""The share of systems that compress their answers, and of those whose stations all report again at every step."""
VALIDATORS = {"": 45, "ETag": 40, "Last-Modified": 15}


@dataclass
class World:
    """One system: its size and habits, and the state that it is in."""

    number: int
    version: str
    stations: int
    vehicles: int
    ttl: float
    host: int
    chance: random.Random
    served: dict[int, float] = field(default_factory=dict)
    """When each state was first served whole (Unix time)."""

    def __post_init__(self) -> None:
        chance = self.chance
        self.packed = chance.random() < GZIPPED
        self.reporting = chance.random() < REPORTING
        (self.validator,) = chance.choices(list(VALIDATORS), list(VALIDATORS.values()))
        self.latency_seconds = chance.lognormvariate(-2.5, 0.6)
        self.phase_seconds = chance.uniform(0, STEP_SECONDS)
        self.step, self.state, self.at = -1, 0, 0
        self.place = chance.uniform(-60, 65), chance.uniform(-180, 180)
        self.docks = [chance.randint(8, 40) for _ in range(self.stations)]
        self.bikes = [chance.randint(0, docks) for docks in self.docks]
        self.parts: dict[str, list[str]] = {"stations": [""] * self.stations, "vehicles": [""] * self.vehicles}
        self.fixed = {name: make() for name, make in (("system_information", self._system),
                      ("station_information", self._information), ("vehicle_types", self._types))}  # fmt: skip

    @property
    def main(self) -> str:
        """The document that a snapshot is about."""
        return "station_status" if self.stations else self.vehicle_document

    @property
    def vehicle_document(self) -> str:
        """The name of the document of vehicles."""
        return "vehicle_status" if self.version >= "3" else "free_bike_status"

    @property
    def documents(self) -> list[str]:
        """What the auto-discovery document lists."""
        names = ["system_information", "station_information", "station_status"] if self.stations else [
            "system_information"]  # fmt: skip
        names += ["vehicle_types"] if self.version >= "2.1" else []
        return names + ([self.vehicle_document] if self.vehicles else [])

    def advance(self, now: float) -> None:
        """Come to the state of this time."""
        step = int((now + self.phase_seconds) // STEP_SECONDS)
        if step == self.step:
            return
        first, self.step, self.at = self.step < 0, step, int(now)
        hour = int(now // 3600 + self.place[1] / 15 + 72) % len(PACE)
        share = 1.0 if first or self.reporting else min(BUSIEST * PACE[hour], 1.0)
        changed = 0
        for name, make in (("stations", self._station), ("vehicles", self._vehicle)):
            parts = self.parts[name]
            picked = range(len(parts)) if share == 1 else self._some(len(parts), share)
            for index in picked:
                parts[index] = make(index)
            changed += len(picked)
        self.state += changed > 0

    def _some(self, count: int, share: float) -> list[int]:
        wanted = int(count * share + self.chance.random())
        return self.chance.sample(range(count), min(wanted, count))

    def body(self, name: str, root: str) -> bytes:
        """A document as it is now."""
        if name == "gbfs":
            feeds = [{"name": each, "url": f"{root}/{self.number}/{each}.json"} for each in self.documents]
            data = json.dumps({"feeds": feeds} if self.version >= "3" else {"en": {"feeds": feeds}})
        elif name in self.fixed:
            data = self.fixed[name]
        else:
            key = "stations" if name == "station_status" else "vehicles"
            array = "bikes" if name == "free_bike_status" else key
            # `state` is no field of GBFS: by it the measurement finds out which states have arrived.
            data = f'{{"state": {self.state}, "{array}": [{", ".join(self.parts[key])}]}}'
        ttl = self.ttl if name in (self.main, self.vehicle_document) else 3600
        updated = self._time(self.at if name not in self.fixed else 1_700_000_000)
        return f'{{"last_updated": {updated}, "ttl": {ttl:g}, "version": "{self.version}", "data": {data}}}'.encode()

    def _time(self, seconds: int) -> str:
        if self.version < "3":
            return str(seconds)
        return f'"{dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()}"'

    def _station(self, index: int) -> str:
        docks = self.docks[index]
        bikes = self.bikes[index] = min(max(self.bikes[index] + self.chance.randint(-3, 3), 0), docks)
        yes, vehicles = (
            ("1", "bikes") if self.version < "2" else ("true", "vehicles" if self.version >= "3" else "bikes")
        )
        types = "" if self.version < "2.1" else (
            f'"vehicle_types_available": [{{"vehicle_type_id": "bike", "count": {bikes - bikes // 3}}}, '
            f'{{"vehicle_type_id": "ebike", "count": {bikes // 3}}}], ')  # fmt: skip
        return (
            f'{{"station_id": "{self.number}-{index}", "num_{vehicles}_available": {bikes}, {types}'
            f'"num_docks_available": {docks - bikes}, "num_{vehicles}_disabled": 0, "num_docks_disabled": 0, '
            f'"is_installed": {yes}, "is_renting": {yes}, "is_returning": {yes}, '
            f'"last_reported": {self._time(self.at)}}}'
        )

    def _vehicle(self, index: int) -> str:
        lat, lon = (start + self.chance.uniform(-0.05, 0.05) for start in self.place)
        name, reserved = "vehicle_id" if self.version >= "3" else "bike_id", "ft"[self.chance.random() < 0.05]
        truth = {"f": "false", "t": "true"}[reserved]
        return (
            f'{{"{name}": "{self.chance.getrandbits(64):016x}-{index}", "lat": {lat:.6f}, "lon": {lon:.6f}, '
            f'"is_reserved": {truth}, "is_disabled": false, "vehicle_type_id": "ebike", '
            f'"current_range_meters": {self.chance.randint(500, 60000)}, "last_reported": {self._time(self.at)}}}'
        )

    def _information(self) -> str:
        (lat, lon), texts = (
            self.place,
            '[{{"text": "Stop {0}", "language": "en"}}]' if self.version >= "3" else '"Stop {0}"',
        )
        return json.dumps({"stations": [
            {"station_id": f"{self.number}-{index}", "name": json.loads(texts.format(index)), "capacity": docks,
             "lat": round(lat + self.chance.uniform(-0.05, 0.05), 6), "lon": round(lon + index % 97 / 1000, 6)}
            for index, docks in enumerate(self.docks)
        ]})  # fmt: skip

    def _system(self) -> str:
        return json.dumps({"system_id": f"s{self.number}", "name": f"System {self.number}", "timezone": "Etc/UTC"})

    def _types(self) -> str:
        return json.dumps({"vehicle_types": [
            {"vehicle_type_id": "bike", "form_factor": "bicycle", "propulsion_type": "human"},
            {"vehicle_type_id": "ebike", "form_factor": "bicycle", "propulsion_type": "electric_assist"},
        ]})  # fmt: skip


def made(count: int) -> list[World]:
    """The first `count` systems of the world: always the same."""
    chance = random.Random(15)
    with Path(__file__).with_name("world_sizes.csv").open() as file:
        sizes = list(csv.DictReader(file))
    worlds = []
    for number in range(count):
        size = chance.choice(sizes)
        (version,) = chance.choices(list(VERSIONS), list(VERSIONS.values()))
        (host,) = chance.choices(range(len(HOSTS)), HOSTS)
        # cities of a recording's size, not all the same
        stations, vehicles = (int(int(size[key]) * chance.uniform(0.7, 1.3)) for key in ("stations", "vehicles"))
        worlds.append(World(number, version, stations, vehicles, float(size["ttl"]), host, random.Random(number)))
    return worlds


class Server:
    """Serves the systems, each at its host's own address of the loopback network."""

    def __init__(self, worlds: list[World]) -> None:
        self._worlds = worlds
        self.port = 0
        self.statuses: Counter[int] = Counter()

    def root(self, world: World) -> str:
        """Where a system is."""
        return f"http://127.0.1.{world.host + 1}:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, after the time that the way takes."""
        world, name = self._worlds[int(request.match_info["number"])], request.match_info["name"]
        await asyncio.sleep(world.latency_seconds)
        world.advance(time.time())
        body, state, headers = world.body(name, self.root(world)), world.state, dict[str, str]()
        current = {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
                   "Last-Modified": f"Thu, 01 Jan 2026 00:00:00 GMT{world.step}"}  # fmt: skip
        if world.validator and (world.validator == "ETag" or name in world.fixed):
            headers[world.validator] = current[world.validator]
        asked = request.headers.get("If-None-Match") or request.headers.get("If-Modified-Since")
        if asked and asked in headers.values():
            self.statuses[304] += 1
            return web.Response(status=304, headers=headers)
        if world.packed:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        response = web.Response(body=body, headers=headers, content_type="application/json")
        await response.prepare(request)
        await response.write_eof()
        self.statuses[200] += 1
        if name == world.main:
            world.served.setdefault(state, time.time())
        return response


async def serve(count: int) -> None:
    """Serve until SIGTERM."""
    asked, worlds = asyncio.Event(), made(count)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    server, app = Server(worlds), web.Application()
    app.router.add_get("/{number:[0-9]+}/{name:[a-z_]+}.json", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    for host in sorted({world.host for world in worlds}):
        site = web.TCPSite(runner, f"127.0.1.{host + 1}", server.port, backlog=1024)
        await site.start()
        server.port = site.port
    tables = [{"id": f"s{world.number}", "format": "gbfs", "timezone": "UTC", "main": world.main,
               "url": f"{server.root(world)}/{world.number}/gbfs.json"} for world in worlds]  # fmt: skip
    print(json.dumps(tables), flush=True)
    await asked.wait()
    await runner.cleanup()
    print(json.dumps({"served": {f"s{world.number}": world.served for world in worlds}, "answers": server.statuses}))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
