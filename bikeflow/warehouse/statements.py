"""The warehouse's SQL: one file a table or view, which begins with the comment that documents it.

The working database (schema `state`) holds what has been derived from the enhanced layer, partition by partition:

- `sql/readings/<order>_<table>.sql` is a query over the rows that are being read (`read_rows`) and the records of their
  raw files (`$records`): a temporary table, for as long as what follows is made of it.
- `sql/derived/<table>.sql` is a query over these. Its rows are stored in `state.<table>`, with `system_id` and the
  partition's day `dt` first. Those of `KEPT` are too many to be copied at each publication: once a day is sealed they
  lie in a Parquet file beside the mirror's.
- `sql/merges/<table>.sql` adds what later raw files gave (`{added}`) to what is stored.
- `sql/polls/` has what is derived from the record of polls, day by day, `sql/usual/` what is once a day,
  `sql/forecast/` what the forecast is made of.
- `sql/bookkeeping/` has the tables that tell what has changed, and which rows of open days lie in files by now.
- `sql/macros/` has what these share, `sql/shared/` what they share with the published database.

A line with `{flag}` in it stands for one line for each of `FLAGS`.

`sql/published/<order>_<object>.sql` creates an object of the published database; in it,
`{files}` stands for the rows of all segments' files, `{<name>}` for those of the kept ones, both with `system_id` and
the partition as `dt`. A view or table is added by adding its file. `wrm_analytics` has views of one `{system}`: those
of `sql/compatible/`, and one for each object in `OF_ONE_SYSTEM`.
"""

from __future__ import annotations

import glob
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile
from pathlib import Path

from bikeflow.core.schema import ENHANCED, FLAGS
from bikeflow.polls.poll import SCHEMA as SCHEMA_OF_POLLS
from bikeflow.warehouse.facts import FILES, RUNS

SCHEMA = "main"
"""The schema of the published objects.

A schema called `analytics` could not be named in a file called analytics.duckdb, as DuckDB calls a database by its
file. This way `analytics.history` works there, and `history` everywhere.
"""
COMPATIBLE = "wrm_analytics"
"""The schema of the views of one system."""
OF_ONE_SYSTEM = {
    "wrm_stations_latest": "stations_latest",
    "wrm_bikes_latest": "bikes_latest",
    "station_summary": "station_summary",
    "former_stations": "former_stations",
    "station_hourly": "station_hourly",
    "station_states": "station_states",
    "station_flows_hourly": "station_flows_hourly",
    "station_usual": "station_usual",
    "station_forecast": "station_forecast",
    "forecast_scores": "forecast_scores",
    "forecast_bins": "forecast_bins",
    "forecast_status": "forecast_status",
    "station_episodes": "station_episodes",
    "station_service_levels": "station_service_levels",
    "bike_density": "bike_density",
    "station_density_hourly": "station_density_hourly",
    "bike_changes": "bike_changes",
    "bike_moves": "bike_moves",
    "fleet_hourly": "fleet_hourly",
    "data_quality": "data_quality",
    "pipeline_partitions": "pipeline_partitions",
    "pipeline_runs": "pipeline_runs",
    "pipeline_files": "pipeline_files",
    "feed_polls": "feed_polls",
    "coverage": "coverage",
    "gaps": "gaps",
    "coverage_days": "coverage_days",
    "coverage_hours": "coverage_hours",
    "publication": "publication",
}
"""What the views of one system are called, and which object they show the system's rows of, without `system_id`."""
PARTS = "parts"
"""The schema of the views that name the files; users need not know it."""

OF_CHANGED_SYSTEMS = "system_id IN (SELECT unnest(CAST(getvariable('changed_systems') AS VARCHAR[])))"
"""A condition: the row is of a system that has changed since the last publication. DuckDB pushes it down to a table,
but not through an ORDER BY."""
DAILY = ("station_totals", "forecast_bins", "forecast_scores", "forecast_status")
"""Tables that hardly ever change but when a day is sealed: they are filled only then."""
NOT_BY_SYSTEM = ("pipeline_runs", "pipeline_files_without_rows", "publication")
"""Tables of which rows may change though nothing of their system has."""

HIVE_TYPES = "hive_types = {'system_id': VARCHAR, 'dt': DATE}"
"""The types of what the paths of the mirror's and the kept files tell: an option of `read_parquet`."""

MIRRORED = "files"
KEPT = ("raw_files", "station_changes", "bike_changes")
"""The tables whose rows lie in files of their own once a day is sealed."""
FOLLOWED = (MIRRORED, *KEPT)
"""The lists that tell of the day after, too: their rows have it as `next_dt`."""
POLLS = "polls"
"""The record of polls of closed days."""
MOVED = {name: f"moved_{name}" for name in (*KEPT, POLLS)}
"""Of these, the list of files with rows of open days, of all systems together."""
USUAL = "station_usual"
"""What is usual at each station, a file a system."""
LISTS = (MIRRORED, *KEPT, *MOVED.values(), POLLS, USUAL)
"""The lists of files that published objects read."""

_FROM_STATE = re.compile(r"FROM (working\.state\.\w+)\b(?!\()")
_CREATED = re.compile(r"^CREATE OR REPLACE (VIEW|TABLE) (\w+)\.(\w+) AS$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """One object of the published database: what creates it, and what its comment tells."""

    schema: str
    name: str
    kind: str
    sql: str
    comment: str

    @property
    def from_state(self) -> bool:
        """Whether it is filled at each publication, from what the working database holds."""
        return self.kind == "TABLE" and "working.state." in self.sql

    @property
    def is_daily(self) -> bool:
        """Whether it is one of `DAILY`."""
        return self.name in DAILY

    @property
    def query(self) -> str:
        """What it holds; in it, files are named by their list."""
        return _query(self.sql[self.sql.index(" AS\n") + len(" AS\n") :])

    @property
    def create_sql(self) -> str:
        """The statement that creates it; a table is empty."""
        sql = self.sql if self.kind == "VIEW" else f"{_query(self.sql)}\nWITH NO DATA"
        for name in LISTS:
            sql = sql.replace(f"{{{name}}}", f"{PARTS}.{name}")
        return sql

    @property
    def fill_sql(self) -> str:
        """The statement that fills the table."""
        return f"INSERT INTO {self.schema}.{self.name}\n{self.query}"

    @property
    def update_sql(self) -> tuple[str, str]:
        """The statements that replace its rows of the systems that have changed, or all of `NOT_BY_SYSTEM`."""
        table = f"{self.schema}.{self.name}"
        if self.name in NOT_BY_SYSTEM:
            return f"DELETE FROM {table}", self.fill_sql
        changed = _FROM_STATE.sub(rf"FROM (FROM \1 WHERE {OF_CHANGED_SYSTEMS})", self.fill_sql)
        return f"DELETE FROM {table} WHERE {OF_CHANGED_SYSTEMS}", changed


@cache
def readings() -> dict[str, str]:
    """The query of each temporary table over the rows that are being read, by its name, in order."""
    return {name.partition("_")[2]: query for name, query in _queries("readings").items()}


@cache
def derived() -> dict[str, str]:
    """The query of each table that is derived from what is being read, by the table's name."""
    return _queries("derived")


@cache
def merges() -> dict[str, str]:
    """The statement that adds what later raw files gave to a derived table, by the table's name."""
    return _queries("merges")


def poll_runs(polls: str) -> str:
    """The query of what these polls, a relation, tell of coverage."""
    return _queries("polls")["poll_runs"].replace("{polls}", polls)


def coverage(runs: str, file_runs: str) -> str:
    """The query of coverage by these relations: what polls tell, and what raw files do."""
    return _queries("polls")["coverage"].replace("{runs}", runs).replace("{file_runs}", file_runs)


@cache
def usual() -> str:
    """The query of what is usual at the stations of a system."""
    return _queries("usual")["station_usual"]


@cache
def forecasting() -> dict[str, str]:
    """The queries of what the forecast learns from, and of what it is held against, by name."""
    return _queries("forecast")


@cache
def bookkeeping() -> tuple[str, ...]:
    """The statements that create the tables that tell what has changed, and of rows in files of open days."""
    return tuple(_queries("bookkeeping").values())


@cache
def macros() -> tuple[str, ...]:
    """The statements that create what the queries share."""
    return (*shared("state"), *_queries("macros").values())


def shared(schema: str) -> tuple[str, ...]:
    """The statements that create in a schema what the working and the published database share."""
    return tuple(sql.replace("{schema}", schema) for sql in _queries("shared").values())


@cache
def published() -> tuple[PublishedObject, ...]:
    """The objects of all systems, in the order in which they can be created."""
    return tuple(_object(text) for text in _files("published").values())


def compatible(system_id: str) -> tuple[PublishedObject, ...]:
    """The views of one system in `wrm_analytics`, in the order in which they can be created."""
    comments = {item.name: item.comment for item in published()}
    views = [
        f"-- {comments[source]}\nCREATE OR REPLACE VIEW {COMPATIBLE}.{name} AS\n"
        f"SELECT * EXCLUDE (system_id) FROM {SCHEMA}.{source} WHERE system_id = {{system}}"
        for name, source in OF_ONE_SYSTEM.items()
    ]
    texts = [*_files("compatible").values(), *views]
    return tuple(_object(text.replace("{system}", quoted(system_id))) for text in texts)


@cache
def stamp() -> str:
    """Changes whenever what is derived would: a working database with another stamp is rebuilt."""
    queries = [item for named in (readings(), derived(), merges()) for pair in named.items() for item in pair]
    text = "\n".join(
        [
            *queries,
            *macros(),
            *bookkeeping(),
            poll_runs(""),
            coverage("", ""),
            usual(),
            *forecasting().values(),
            *_model(),
            *map(str, (ENHANCED, RUNS, FILES, SCHEMA_OF_POLLS)),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def pattern(file: Path) -> str:
    """What matches just this file where a pattern is expected."""
    return glob.escape(str(file))


def described(text: str) -> tuple[str, str]:
    """The statement in a file, and the comment above it as one line."""
    lines = text.splitlines()
    above = list(takewhile(lambda line: line.startswith("--"), lines))
    return "\n".join(lines[len(above) :]), " ".join(line.removeprefix("--").strip() for line in above)


def _model() -> list[str]:
    """The source of the forecast: another one would have given other scores."""
    files = resources.files("bikeflow.forecast").iterdir()
    return sorted(file.read_text(encoding="utf-8") for file in files if file.name.endswith(".py"))


@cache
def _queries(folder: str) -> dict[str, str]:
    return {name.removesuffix(".sql"): _query(text) for name, text in _files(folder).items()}


def _query(text: str) -> str:
    return text.rstrip().rstrip(";")


def _files(folder: str) -> dict[str, str]:
    files = resources.files("bikeflow.warehouse").joinpath("sql", folder).iterdir()
    return {
        file.name: _for_each_flag(file.read_text(encoding="utf-8"))
        for file in sorted(files, key=lambda file: file.name)
    }


def _for_each_flag(text: str) -> str:
    """The text with each line that has a `{flag}` in it once for each flag."""
    lines = text.splitlines(keepends=True)
    return "".join(line.replace("{flag}", flag) for line in lines for flag in (FLAGS if "{flag}" in line else ("",)))


def _object(text: str) -> PublishedObject:
    created = _CREATED.search(text)
    if created is None:
        raise ValueError(f"creates neither a view nor a table: {text!r}")
    return PublishedObject(created[2], created[3], created[1], text, described(text)[1])
