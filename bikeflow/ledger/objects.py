"""Which Parquet files of a system lie in the store, and whose they are: how a lost ledger learns what is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bikeflow.core.layout import LAYERS, Layer, Layout
from bikeflow.core.model import ObjectInfo, Segment
from bikeflow.ledger.database import Database
from bikeflow.ledger.files import FileResult, identity, result_values, segment_from, set_object


class ObjectIndex:
    """The Parquet files of one system."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    def known(self, layer: Layer) -> dict[str, tuple[Segment, str]]:
        """Segment and ETag of every file of a layer that we wrote or adopted, by key."""
        rows = self._database.rows("segments_of_system", system_id=self._layout.system_id)
        found = [(segment_from(row), row[f"{layer}_etag"]) for row in rows]
        return {self._layout.segment_key(layer, item[0]): item for item in found if item[1] is not None}

    def foreign(self) -> dict[str, str]:
        """ETags of the files that are not ours, by key."""
        return self._database.pairs("foreign_objects", system_id=self._layout.system_id)

    def set_foreign(self, etags: Mapping[str, str]) -> None:
        """Remember exactly these files as not ours."""
        system_id = self._layout.system_id
        rows = [{"system_id": system_id, "key": key, "etag": etag} for key, etag in etags.items()]
        with self._database.transaction() as transaction:
            transaction.run("forget_foreign_objects", system_id=system_id)
            transaction.run_many("add_foreign_object", rows)

    def lost(self, segment: Segment, layer: Layer) -> None:
        """The segment's file in a layer is gone or was replaced by something else: it is to be written again."""
        with self._database.transaction() as transaction:
            transaction.run("want_known_segment", **identity(segment))
            set_object(transaction, identity(segment), layer, None)

    def adopt(self, segment: Segment, objects: Mapping[Layer, ObjectInfo], results: Sequence[FileResult]) -> bool:
        """Take over a segment as its footers describe it: `results`, whose `etag` is that of the file as processed.

        Returns whether it is complete: both layers there, made of exactly the raw files that are now wanted in it.
        """
        place = identity(segment)
        with self._database.transaction() as transaction:
            transaction.run("adopt_segment", **place)
            # What was known of the segment's content was true of the files that these have replaced.
            transaction.run("process_segment_again", **place)
            adopted = [transaction.run("adopt_raw_file", **place, **result_values(result)) for result in results]
            row = transaction.run("segment_with_count", **place).fetchone()
            complete = (
                sum(cursor.rowcount for cursor in adopted) == len(results) == row["files"]
                and row["segment_start"] == place["start"]
                and set(objects) == set(LAYERS)
            )
            for layer, info in objects.items():
                set_object(transaction, place, layer, info)
            if complete:
                transaction.run("segment_done", **place, wanted=row["wanted"])
            else:
                transaction.run("want_known_segment", **place)
        return complete
