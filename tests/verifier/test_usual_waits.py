"""Just after midnight, `verify` does not compare what is usual where a service has not come to it yet."""

from __future__ import annotations

import datetime as dt

import duckdb

from bikeflow.verifier.tables import _USUAL_WAITS
from bikeflow.warehouse.statements import PARTS, shared


def test_only_in_the_first_hour_of_a_systems_local_day_may_it_be_that_of_the_day_before() -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE SCHEMA {PARTS}")
        for sql in shared(PARTS):
            connection.execute(sql)
        connection.execute("CREATE TABLE systems (system_id VARCHAR, timezone VARCHAR)")
        connection.execute("CREATE TABLE coverage (system_id VARCHAR, ended_at TIMESTAMP)")
        connection.execute("CREATE TABLE station_usual (system_id VARCHAR, before_date DATE)")
        midnight = dt.datetime(2026, 11, 28, 23)  # noqa: DTZ001 - naive UTC; the 29th begins in Wrocław
        for name, minutes, written in [
            ("soon, not yet", 20, 28), ("soon, never", 20, None), ("soon, done", 20, 29),
            ("later, not yet", 70, 28), ("evening, done", -20, 28),
        ]:  # fmt: skip
            connection.execute("INSERT INTO systems VALUES ($1, 'Europe/Warsaw')", [name])
            connection.execute("INSERT INTO coverage VALUES ($1, $2)", [name, midnight + dt.timedelta(minutes=minutes)])
            if written:
                connection.execute("INSERT INTO station_usual VALUES ($1, $2)", [name, dt.date(2026, 11, written)])
        found = {name for (name,) in connection.execute(_USUAL_WAITS).fetchall()}
    assert found == {"soon, not yet", "soon, never"}
