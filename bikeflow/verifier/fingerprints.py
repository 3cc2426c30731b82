"""Rows reduced to a number for each raw file, so that whole archives are compared with little memory.

The number does not depend on the order of rows, but on each value in each of them, and on how often a row is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import duckdb
import pyarrow as pa

from bikeflow.core.layout import Layer
from bikeflow.core.schema import ENHANCED, PROCESSED

SCHEMAS: Mapping[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}


class Fingerprint(NamedTuple):
    """How many rows a raw file has somewhere, and the sum of their hashes."""

    rows: int
    digest: int


Fingerprints = dict[str, Fingerprint]
"""By the raw file's key."""
NOTHING = Fingerprint(0, 0)


def of_table(table: pa.Table, layer: Layer) -> Fingerprints:
    """Those of rows that have at least the layer's columns."""
    schema = SCHEMAS[layer]
    with duckdb.connect(":memory:") as connection:
        connection.register("rows_given", table.select(schema.names).cast(schema))
        return of_relation(connection, "rows_given", layer)


def of_relation(
    connection: duckdb.DuckDBPyConnection, name: str, layer: Layer, condition: str = "true"
) -> Fingerprints:
    """Those of a table or view that DuckDB knows by this name, where the condition holds."""
    columns = ", ".join(f'"{column}"' for column in SCHEMAS[layer].names)
    sql = (
        f"SELECT s3_source_key, count(*), sum(hash({columns})::HUGEINT)::VARCHAR"  # noqa: S608
        f" FROM {name} WHERE {condition} GROUP BY s3_source_key"
    )
    return {key: Fingerprint(rows, int(digest)) for key, rows, digest in connection.execute(sql).fetchall()}


def merged(total: Fingerprints, more: Fingerprints) -> None:
    """Add those of more rows."""
    for key, item in more.items():
        known = total.get(key, NOTHING)
        total[key] = Fingerprint(known.rows + item.rows, known.digest + item.digest)
