"""Fields of any size: the same row or dead letter whatever else is in the batch, and however the line is read."""

from __future__ import annotations

import csv
import datetime as dt
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bikeflow.layout import Layout
from bikeflow.model import UTC, ObjectInfo
from bikeflow.settings.sections import RulesSettings, StorageSettings
from bikeflow.transform.document import read_document, records
from bikeflow.transform.parsing import RawText, parse_files
from tests.support.lines import raw_file, station
from tests.support.road import open_road
from tests.support.rounds import rounds

LAYOUT = Layout("bike-data/gen_info/")
TIME = dt.datetime(2025, 5, 31, 13, 50, 5, tzinfo=UTC)
LIMIT = csv.field_size_limit()
"""Python's csv module refuses longer fields, unless it is told otherwise."""

COMPANIONS = {
    "none": [],
    "a line that Arrow refuses": [station(7, bikes="5+")],
    "an open quote": [station(7, name='"Rynek')],
    "many good lines": [station(1000 + n) for n in range(300)],
}
"""What stands in another file of the same batch; most send the huge line by another way."""


def raw_text(number: int, text: str) -> RawText:
    key = LAYOUT.raw_key(TIME + dt.timedelta(seconds=number))
    raw = LAYOUT.raw_file(ObjectInfo(key, len(text), "etag", TIME))
    assert raw is not None
    return RawText(raw, "md5", text.encode())


def outcome(lines: list[str], companion: list[str]) -> tuple[list[dict[str, object]], list[tuple[int | None, str]]]:
    """Rows and dead letters of a file with these lines, beside another file."""
    text = raw_text(0, raw_file(*lines))
    parsed, _ = parse_files([text, raw_text(1, raw_file(*companion))], RulesSettings())
    document = read_document(text.raw.key, text.raw.time, text.raw.partition, text.text)
    assert parsed.lines == sum(1 for _ in records(document)), "verify counts other lines"
    return parsed.table.to_pylist(), [(letter.line_number, letter.check) for letter in parsed.dead_letters]


def quoted(field: str) -> str:
    output = io.StringIO()
    csv.writer(output, quoting=csv.QUOTE_ALL, lineterminator="").writerow([field])
    return output.getvalue()


huge_texts = st.builds(
    lambda unit, size: (unit * (size // len(unit) + 1))[:size],
    st.sampled_from(["a", "ż", 'a"', "a,b ", "Rynek 1 ", "0"]),
    st.sampled_from([LIMIT - 2, LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT]),
)


@settings(max_examples=rounds(15, 40), suppress_health_check=list(HealthCheck))
@given(
    huge=huge_texts,
    column=st.sampled_from(["id", "packed", "name", "lat", "bikes", "installed", "battery", "pedelecs"]),
    suffix=st.sampled_from(["", "\n", "\nb", '"']),
    is_quoted=st.booleans(),
    beside=st.sampled_from(['"Plac, Solny"', "Rynek"]),
)
@example(huge="a" * (LIMIT + 1), column="name", suffix="", is_quoted=True, beside="Rynek")
@example(huge="a" * (LIMIT + 1), column="battery", suffix="\nb", is_quoted=True, beside="Rynek")
@example(huge="0" * (LIMIT + 1), column="bikes", suffix="", is_quoted=True, beside="Rynek")
def test_a_huge_field_has_one_outcome_whatever_shares_its_batch(
    huge: str, column: str, suffix: str, is_quoted: bool, beside: str
) -> None:
    field = quoted(huge + suffix) if is_quoted else huge + suffix
    changes = {column: field} if column == "name" else {"name": beside, column: field}
    lines = [station(1), station(2, **changes), station(3)]
    found = {name: outcome(lines, companion) for name, companion in COMPANIONS.items()}
    assert all(item == found["none"] for item in found.values()), list(found)
    rows, letters = found["none"]
    if is_quoted and column == "name":
        assert [row["name"] for row in rows] == ["Plac 1", huge + suffix, "Plac 3"]
        assert letters == []


def test_a_field_beyond_the_block_that_arrow_reads_at_once_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bikeflow.transform.columnar._BLOCK_BYTES", 4 * LIMIT)
    name = "Plac, " * LIMIT
    rows, letters = outcome([station(1), station(2, name=quoted(name)), station(3)], COMPANIONS["many good lines"])
    assert [row["name"] for row in rows] == ["Plac 1", name, "Plac 3"]
    assert letters == []


async def test_verify_and_a_second_processing_agree_about_a_huge_field(tmp_path: Path) -> None:
    """Processed in a batch with dead letters, then by itself as a replay does it, then read again by `verify`."""
    huge = raw_file(station(1), station(2, name=quoted("Rynek, " * LIMIT)), "cut off")
    async with open_road(StorageSettings(), tmp_path) as road:
        key = await road.put_raw("dt=2025-05-31/wrm_stations_2025-05-31_13-50-05.txt", huge)
        await road.put_raw("dt=2025-05-31/wrm_stations_2025-05-31_13-51-05.txt", raw_file(station(1, bikes="5+")))
        (first,) = await road.process()
        before, letters = await road.objects("enhanced/"), await road.objects("dlq/")
        road.ledger.files.process_again({key})
        (second,) = await road.process()
        assert (first.rows, first.rejected) == (2, 2)
        assert (second.files, second.rows, second.rejected) == (1, 2, 1)
        assert await road.objects("enhanced/") == before
        assert len(await road.objects("dlq/")) == len(letters) == 2
        assert (await road.verify()).findings == []


@pytest.mark.parametrize("column", ["bikes", "battery", "packed"])
def test_leading_zeros_of_any_number_are_read(column: str) -> None:
    """Python refuses to make a number of more than 4,300 digits; a line beside it that is odd sends both that way."""
    zeros = "0" * 5_000
    value = f"{zeros}1|-{zeros}7200|-3600" if column == "packed" else f"{zeros}7"
    lines = [station(1, **{column: value}), station(2, bikes="5+")]
    (row,), letters = outcome(lines, [])
    assert letters == [(3, "type")]
    seen = {"bikes": row["bikes"], "battery": row["battery_level"], "packed": row["gmt_local_diff_sec"]}
    assert seen[column] == (-7200 if column == "packed" else 7)
