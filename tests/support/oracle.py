"""An oracle: a feed of numbered snapshots, and a checker that shares no code with what it judges.

Each snapshot tells its number in every line, so that whatever is found anywhere can be traced to it. The oracle made
all lines itself and knows which are good: it never parses by bikeflow's rules, it compares. What a service has
*promised* (it said that it stored a snapshot, or somebody else put it in the lake) must be there; what it was served
and did not promise may be there; nothing may be there twice, and nothing else.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from aiohttp import web

STATIONS = 5
HEADER = (
    "#id,timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec,name,lat,lon,bikes,spaces,installed,locked,temporary,"
    "total_docks,givesbonus_acceptspedelecs_fbbattlevel,pedelecs"
)
PREFIX = "bike-data/gen_info/"
LAYERS = ("processed", "enhanced")
_NUMBER = re.compile(rb"snapshot (\d+)")
_STORED = re.compile(r'\bevent=fetched\b.*\boutcome=stored\b.*\bkey="?([^\s"]+)')
Row = tuple[str, str, int]
"""What identifies a row and where it comes from: raw key, station id, number of the snapshot."""


class Oracle:
    """Serves numbered snapshots, remembers them all, and judges what became of them.

    Each is served `repeats` times, and is made larger by so many blank lines.
    """

    def __init__(self, repeats: int = 1, padding: int = 0) -> None:
        self.url = ""
        self.served: list[str] = []
        self.put: dict[str, int] = {}
        """Raw files that the oracle itself puts in the lake as somebody else would: number by key; promised at once."""
        self.frozen = False
        """While it is set, the newest snapshot is served again and again."""
        self._requests = 0
        self._repeats = repeats
        self._padding = "\n" * padding
        self._last = ""

    def snapshot(self) -> tuple[int, str]:
        """A new snapshot: its number and text. Every third has a bad line, every seventh two."""
        number = len(self.served)
        lines = (HEADER, *good_lines(number), *bad_lines(number))
        self.served.append("".join(f"{line}\n" for line in lines) + self._padding)
        return number, self.served[number]

    def put_file(self, key: str) -> bytes:
        """A new snapshot that is about to be put under this key, in the place of what may be there."""
        self.put[key], text = self.snapshot()
        return text.encode()

    async def handle(self, _request: web.Request) -> web.Response:
        """Serve a snapshot, the same one `repeats` times."""
        if self.frozen and self._last:
            return web.Response(text=self._last, content_type="text/plain")
        if self._requests % self._repeats == 0:
            self._last = self.snapshot()[1]
        self._requests += 1
        text = self._last
        return web.Response(text=text, content_type="text/plain")

    def promised(self, log: str) -> set[str]:
        """Raw keys of which a service has logged that they are safe."""
        return set(_STORED.findall(log))

    def audit(self, lake: Mapping[str, bytes], database: Path | None, log: str = "", prefix: str = PREFIX) -> Verdict:
        """Compare a lake (contents by key) and its published database with what was served and promised."""
        verdict = Verdict(served=len(self.served))
        numbers = self._raw_numbers(lake, verdict, prefix)
        for key in sorted((self.promised(log) | self.put.keys()) - numbers.keys()):
            verdict.blame(f"lost snapshot: {key} was promised, but is not in the lake")
            verdict.lost += STATIONS
        expected = Counter((key, f"{i + 1}", number) for key, number in numbers.items() for i in range(STATIONS))
        verdict.stored, verdict.expected = len(numbers), expected.total()
        for layer in LAYERS:
            _compare(layer, expected, _layer_rows(lake, prefix, layer), verdict)
        _check_dead_letters(lake, prefix, numbers, verdict)
        if database is not None:
            _check_database(database, expected, numbers, verdict)
        return verdict

    def _raw_numbers(self, lake: Mapping[str, bytes], verdict: Verdict, prefix: str) -> dict[str, int]:
        """The snapshot that each raw file is; one that is none, was altered or lies there twice is blamed."""
        numbers: dict[str, int] = {}
        for key, data in lake.items():
            if not key.startswith(f"{prefix}raw/"):
                continue
            match = _NUMBER.search(data)
            number = int(match[1]) if match else -1
            if not 0 <= number < len(self.served) or self.served[number].encode() != data:
                verdict.blame(f"altered snapshot: {key} is not what was served")
            elif key in self.put and self.put[key] != number:
                verdict.blame(f"replaced snapshot: {key} is number {number} instead of {self.put[key]}")
            elif number in numbers.values():
                verdict.blame(f"doubled snapshot: number {number} lies in the lake twice, once as {key}")
                verdict.doubled += STATIONS
            numbers[key] = number
        return numbers


@dataclass
class Verdict:
    """What an audit found; `problems` is empty where nothing was lost, doubled or altered."""

    served: int = 0
    stored: int = 0
    expected: int = 0
    found: int = 0
    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)

    def blame(self, problem: str) -> None:
        """Add a problem."""
        self.problems.append(problem)

    def assert_exactly_once(self) -> None:
        """Fail with the first problems unless every row is there exactly once."""
        assert not self.problems, f"{self}\n" + "\n".join(self.problems[:20])
        assert (self.lost, self.doubled, self.found) == (0, 0, self.expected)


def good_lines(number: int) -> list[str]:
    """The lines of a snapshot that must become rows; station 1 tells the snapshot's number in `pedelecs` as all do."""
    return [
        f'{i + 1},{1_748_699_405 + number}.25|-7200|-3600,"Plac {i + 1}, snapshot {number}",51.1{i},17.03,'
        f"{number % 12},3,true,false,false,15,false,{number}"
        for i in range(STATIONS)
    ]


def bad_lines(number: int) -> list[str]:
    """The lines of a snapshot that must become dead letters."""
    broken = [good_lines(number)[0].replace(",17.03,", ",517.03,").replace("1,", "91,", 1), f"cut off {number},1748"]
    return broken[: (number % 3 == 0) + (number % 7 == 0)]


@asynccontextmanager
async def serving(repeats: int = 1, padding: int = 0) -> AsyncIterator[Oracle]:
    """An oracle behind a real HTTP server on a free port of 127.0.0.1."""
    oracle = Oracle(repeats, padding)
    app = web.Application()
    app.router.add_get("/feed.txt", oracle.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        oracle.url = f"http://127.0.0.1:{site.port}/feed.txt"
        yield oracle
    finally:
        await runner.cleanup()


def local_keys(data_dir: Path) -> list[str]:
    """The keys of a local lake's objects; names with a dot are no objects."""
    root = data_dir / "lake"
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return [path.relative_to(root).as_posix() for path in files]


def local_lake(data_dir: Path) -> dict[str, bytes]:
    """Contents of a local lake's objects by key, read as plain files; nothing must remove any meanwhile."""
    return {key: (data_dir / "lake" / key).read_bytes() for key in local_keys(data_dir)}


def bucket_keys(client: Any, bucket: str) -> list[str]:
    """The keys of a bucket's objects."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def bucket_lake(client: Any, bucket: str) -> dict[str, bytes]:
    """Contents of a bucket's objects by key, read with a plain client; nothing must remove any meanwhile."""
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in bucket_keys(client, bucket)}


def database_rows(database: Path) -> list[Row]:
    """All rows of the published history."""
    sql = "SELECT s3_source_key, station_id, pedelecs FROM wrm_analytics.wrm_stations_enhanced_data"
    with duckdb.connect(database, read_only=True) as connection:
        return [(key, station, number) for key, station, number in connection.execute(sql).fetchall()]


def _layer_rows(lake: Mapping[str, bytes], prefix: str, layer: str) -> Counter[Row]:
    rows: Counter[Row] = Counter()
    for key, data in lake.items():
        if key.startswith(f"{prefix}{layer}/") and key.endswith(".parquet"):
            table = pq.ParquetFile(io.BytesIO(data)).read(["s3_source_key", "station_id", "pedelecs"])
            rows.update(tuple(row.values()) for row in table.to_pylist())
    return rows


def _compare(where: str, expected: Counter[Row], found: Counter[Row], verdict: Verdict) -> None:
    """Every expected row once, no other."""
    missing, surplus = expected - found, found - expected
    verdict.found = found.total()
    verdict.lost += missing.total()
    verdict.doubled += surplus.total()
    for row in sorted(missing)[:3]:
        verdict.blame(f"lost row: {row} is not in {where} ({missing.total()} in all)")
    for row in sorted(surplus)[:3]:
        verdict.blame(f"doubled row: {row} is in {where} {found[row]} times ({surplus.total()} too many in all)")


def _check_dead_letters(lake: Mapping[str, bytes], prefix: str, numbers: Mapping[str, int], verdict: Verdict) -> None:
    expected = Counter((key, line) for key, number in numbers.items() for line in bad_lines(number))
    found: Counter[tuple[str, str]] = Counter()
    for key, data in lake.items():
        if key.startswith(f"{prefix}dlq/dt="):
            letters = [json.loads(line) for line in data.splitlines()]
            found.update((letter["source_key"], letter["raw_line"]) for letter in letters)
    for letter in sorted(expected - found):
        verdict.blame(f"lost dead letter: {letter}")
    for letter in sorted(found - expected):
        verdict.blame(f"surplus dead letter: {letter}")


def _check_database(database: Path, expected: Counter[Row], numbers: Mapping[str, int], verdict: Verdict) -> None:
    _compare("the published database", expected, Counter(database_rows(database)), verdict)
    sql = "SELECT station_id, s3_source_key FROM wrm_analytics.wrm_stations_latest ORDER BY station_id"
    with duckdb.connect(database, read_only=True) as connection:
        latest = connection.execute(sql).fetchall()
    newest = max(numbers, default=None)  # keys sort by time
    if latest != [(f"{i + 1}", newest) for i in range(STATIONS) if newest is not None]:
        verdict.blame(f"wrm_stations_latest is {latest}, not the rows of {newest}")
