"""`bikeflow lineage`: where each table comes from, back to the feed."""

from __future__ import annotations

import sys

from bikeflow.cli.catalog import Name
from bikeflow.cli.options import Given, Json, grouped
from bikeflow.cli.results import write_json, write_table
from bikeflow.cli.sources import connected
from bikeflow.core.errors import BikeflowError

EDGES = "FROM main.lineage WHERE $1 IS NULL OR object = $1"
ALL = """
SELECT object, kind, string_agg(source, ', ') AS made_of
FROM main.lineage
GROUP BY object, kind
ORDER BY min(rowid)
"""
# Breadth first: what is nearest to the object comes first, and everything once.
UPSTREAM = """
WITH RECURSIVE upstream (object, distance) USING KEY (object) AS (
    SELECT $1, 0
    UNION
    SELECT source, distance + 1 FROM upstream JOIN main.lineage USING (object)
)
SELECT object, string_agg(source, ', ') AS made_of, any_value(how) AS how
FROM upstream JOIN main.lineage USING (object)
GROUP BY object
ORDER BY min(distance), object
"""


@grouped
def lineage(given: Given, name: Name = None, as_json: Json = False) -> None:
    """Tell what each table is made of. Of one TABLE, all that it comes from, back to the feed."""
    with connected(given.settings) as connection:
        name = name and name.removeprefix("main.")
        if name is not None and not connection.execute("FROM main.lineage WHERE object = $1", [name]).fetchone():
            raise BikeflowError(f"there is no {name}; `bikeflow lineage` names all tables")
        if as_json:
            write_json(connection.execute(EDGES, [name]), sys.stdout)
        elif name is None:
            write_table(connection.execute(ALL), sys.stdout)
        else:
            write_table(connection.execute(UPSTREAM, [name]), sys.stdout)
