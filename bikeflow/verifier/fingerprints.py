"""Rows reduced to numbers for each raw file, so that whole archives are compared with little memory.

The numbers do not depend on the order of rows, but on each value in each of them, and on how often a row is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import duckdb
import pyarrow as pa

from bikeflow.core.layout import Layer
from bikeflow.core.schema import PROCESSED, SCHEMAS


class Fingerprint(NamedTuple):
    """How many rows a raw file has somewhere, and the sums of their hashes.

    Of all columns, of all but the flags, and of those that both layers have.
    """

    rows: int
    digest: int
    unflagged: int
    common: int


Fingerprints = dict[str, Fingerprint]
"""By the raw file's key."""
NOTHING = Fingerprint(0, 0, 0, 0)


def of_table(table: pa.Table, layer: Layer) -> Fingerprints:
    """The fingerprints of a table that has at least the layer's columns."""
    schema = SCHEMAS[layer]
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.register("rows_given", table.select(schema.names).cast(schema))
        return of_relation(connection, "rows_given", layer)


def of_relation(connection: duckdb.DuckDBPyConnection, relation: str, layer: Layer) -> Fingerprints:
    """The fingerprints of a table or view that DuckDB knows by this name."""
    names = SCHEMAS[layer].names
    unflagged = [name for name in names if name != "quality_flags"]
    sums = ", ".join(map(_sum_of_hashes, (names, unflagged, PROCESSED.names)))
    sql = f"SELECT s3_source_key, count(*), {sums} FROM {relation} GROUP BY s3_source_key"  # noqa: S608
    return {key: Fingerprint(rows, *map(int, digests)) for key, rows, *digests in connection.execute(sql).fetchall()}


def _sum_of_hashes(columns: Iterable[str]) -> str:
    listed = ", ".join(f'"{column}"' for column in columns)
    return f"sum(hash({listed})::HUGEINT)::VARCHAR"


def add(total: Fingerprints, more: Fingerprints) -> None:
    """Add the fingerprints of more rows to `total`."""
    for key, item in more.items():
        known = total.get(key, NOTHING)
        total[key] = Fingerprint(*(one + other for one, other in zip(known, item, strict=True)))
