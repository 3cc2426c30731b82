"""Rows reduced to numbers for each raw file, so that whole archives are compared with little memory.

The numbers do not depend on the order of rows, but on each value in each of them, and on how often a row is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import duckdb
import pyarrow as pa

from bikeflow.layout import Layer
from bikeflow.schema import ENHANCED, PROCESSED

SCHEMAS: Mapping[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}
FLAGS_COLUMN = "quality_flags"


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
    """Those of rows that have at least the layer's columns."""
    schema = SCHEMAS[layer]
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.register("rows_given", table.select(schema.names).cast(schema))
        return of_relation(connection, "rows_given", layer)


def of_relation(connection: duckdb.DuckDBPyConnection, relation: str, layer: Layer) -> Fingerprints:
    """Those of a table or view that DuckDB knows by this name."""
    common = _listed(PROCESSED.names)
    extra = _listed(name for name in ENHANCED.names if name not in (*PROCESSED.names, FLAGS_COLUMN))
    is_whole = layer == "enhanced"
    unflagged = f"hash(common, {extra})" if is_whole else "common"
    digest = f"hash(unflagged, {FLAGS_COLUMN})" if is_whole else "unflagged"
    sql = (
        f"SELECT s3_source_key, count(*), sum(({digest})::HUGEINT)::VARCHAR, sum(unflagged::HUGEINT)::VARCHAR,"  # noqa: S608
        f" sum(common::HUGEINT)::VARCHAR FROM (SELECT *, {unflagged} AS unflagged FROM"
        f" (SELECT *, hash({common}) AS common FROM {relation})) GROUP BY s3_source_key"
    )
    return {key: Fingerprint(rows, *map(int, sums)) for key, rows, *sums in connection.execute(sql).fetchall()}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def merged(total: Fingerprints, more: Fingerprints) -> None:
    """Add those of more rows."""
    for key, item in more.items():
        known = total.get(key, NOTHING)
        total[key] = Fingerprint(*(one + other for one, other in zip(known, item, strict=True)))
