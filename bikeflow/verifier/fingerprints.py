"""Rows reduced to numbers for each raw file, so that whole archives are compared with little memory.

The numbers do not depend on the order of rows, but on each value in each of them, and on how often a row is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import duckdb
import pyarrow as pa

from bikeflow.layout import Layer
from bikeflow.schema import ENHANCED, PROCESSED

SCHEMAS: Mapping[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}
FLAGS_COLUMN = "quality_flags"


class Fingerprint(NamedTuple):
    """How many rows a raw file has somewhere; the sums of their hashes, and of those of all columns but the flags."""

    rows: int
    digest: int
    unflagged: int


Fingerprints = dict[str, Fingerprint]
"""By the raw file's key."""
NOTHING = Fingerprint(0, 0, 0)


def of_table(table: pa.Table, layer: Layer) -> Fingerprints:
    """Those of rows that have at least the layer's columns."""
    schema = SCHEMAS[layer]
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.register("rows_given", table.select(schema.names).cast(schema))
        return of_relation(connection, "rows_given", layer)


def of_relation(connection: duckdb.DuckDBPyConnection, name: str, layer: Layer) -> Fingerprints:
    """Those of a table or view that DuckDB knows by this name."""
    names = SCHEMAS[layer].names
    unflagged = ", ".join(f'"{column}"' for column in names if column != FLAGS_COLUMN)
    whole = f"hash(unflagged, {FLAGS_COLUMN})" if FLAGS_COLUMN in names else "unflagged"
    flags = f", {FLAGS_COLUMN}" if FLAGS_COLUMN in names else ""
    sql = (
        f"SELECT s3_source_key, count(*), sum({whole}::HUGEINT)::VARCHAR, sum(unflagged::HUGEINT)::VARCHAR"  # noqa: S608
        f" FROM (SELECT s3_source_key, hash({unflagged}) AS unflagged{flags} FROM {name}) GROUP BY s3_source_key"
    )
    found = connection.execute(sql).fetchall()
    return {key: Fingerprint(rows, int(digest), int(plain)) for key, rows, digest, plain in found}


def merged(total: Fingerprints, more: Fingerprints) -> None:
    """Add those of more rows."""
    for key, item in more.items():
        known = total.get(key, NOTHING)
        total[key] = Fingerprint(*(one + other for one, other in zip(known, item, strict=True)))
