"""One Parquet file of ours, looked at by itself: its schema, the order of its rows, and what its footer tells."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow.core.layout import DAY_END, DAY_START, Layer, Layout
from bikeflow.core.model import Segment
from bikeflow.core.schema import completed, is_enhanced
from bikeflow.feeds.recipe import is_recipe
from bikeflow.segments.footer import Footer, read_footer
from bikeflow.verifier.fingerprints import SCHEMAS, Fingerprint, Fingerprints, of_table


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What a file holds, and what is wrong with it: pairs of kind and message."""

    footer: Footer
    rows: Fingerprints
    faults: list[tuple[str, str]]


def look_at(data: bytes, layer: Layer, layout: Layout) -> LookedAt | None:
    """None where it is not ours; raises pyarrow's errors, ValueError or LookupError where it can't be read."""
    footer = read_footer(data, layout.system_id)
    if footer is None:
        return None
    file = pq.ParquetFile(pa.BufferReader(data))
    faults = [("wrong_footer", message) for message in footer_faults(footer, layout)]
    named = {record.key: record.rows for record in footer.files if record.rows}
    schema = file.schema_arrow.remove_metadata()
    if not (is_enhanced(schema) if layer == "enhanced" else schema.equals(SCHEMAS[layer])):
        faults.append(("wrong_parquet", f"its schema is not that of the {layer} layer"))
        keys = Counter(file.read(["s3_source_key"])["s3_source_key"].to_pylist())
        return LookedAt(footer, {key: Fingerprint(rows, 0, 0, 0) for key, rows in keys.items()}, faults)
    table = completed(file.read()) if layer == "enhanced" else file.read()
    rows = of_table(table, layer)
    if {key: item.rows for key, item in rows.items()} != named:
        faults.append(("wrong_parquet", "its rows are not those that its footer names"))
    if not in_order(table):
        faults.append(("wrong_order", "its rows are not sorted by station_id, timestamp and raw file"))
    return LookedAt(footer, rows, faults)


def footer_faults(footer: Footer, layout: Layout) -> Iterator[str]:
    """What a footer tells that can't be, whatever the lake holds."""
    segment, keys = footer.segment, [record.key for record in footer.files]
    if not _is_cut_evenly(segment):
        yield f"its footer tells of a segment from {segment.start} to {segment.end}, as no day is cut"
    if keys != sorted(set(keys)):
        yield "its footer names raw files twice, or not in order"
    if outside := [key for key in keys if not _lies_in(segment, key, layout)]:
        yield f"its footer names raw files of another time, such as {outside[0]}"
    if unknown := [record for record in footer.files if not is_recipe(record.recipe)]:
        yield f"its footer tells of rules that can't be: {unknown[0].recipe[:40]!r} for {unknown[0].key}"


def in_order(table: pa.Table) -> bool:
    """Whether rows are sorted as ours are, with none there twice."""
    equal = np.ones(max(table.num_rows - 1, 0), dtype=bool)
    times = table["timestamp"].cast(pa.int64()).fill_null(0).to_numpy()
    for values in (_ranks(table["station_id"]), times, _ranks(table["s3_source_key"])):
        if (equal & (values[1:] < values[:-1])).any():
            return False
        equal &= values[1:] == values[:-1]
    return not equal.any()


def _ranks(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Numbers that sort as the texts do."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    texts = encoded.dictionary.to_pylist()
    rank = np.empty(len(texts), dtype=np.int64)
    rank[sorted(range(len(texts)), key=lambda code: texts[code] or "")] = np.arange(len(texts))
    ranks: npt.NDArray[np.int64] = rank[encoded.indices.to_numpy()]
    return ranks


def _is_cut_evenly(segment: Segment) -> bool:
    start, end = (60 * at.hour + at.minute for at in (segment.start, segment.end))
    minutes = end - start + 1
    whole = (segment.start.second, segment.end.second) == (0, 59)
    return whole and minutes > 0 and 1440 % minutes == 0 and start % minutes == 0


def _lies_in(segment: Segment, key: str, layout: Layout) -> bool:
    """Whether a raw file belongs to the segment, as far as its key tells; times outside the day count to its ends."""
    day = segment.partition.day
    if not key.startswith(layout.raw_folder(day)):
        return False
    time = layout.snapshot_time(key)
    if time is None:
        return True
    first, last = (dt.datetime.combine(day, at, dt.UTC) for at in (DAY_START, DAY_END))
    at = min(max(time, first), last)
    return segment.start <= at.time() <= segment.end
