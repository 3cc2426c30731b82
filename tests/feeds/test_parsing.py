"""Parsing, typing, validation, classification and flags, against an independent reference and by example."""

from __future__ import annotations

import csv
import datetime as dt
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bikeflow.core.model import UTC, ObjectInfo
from bikeflow.core.schema import ADDED, FLAGS
from bikeflow.feeds.base import ParsedFile, RawContent
from bikeflow.feeds.recipe import RULES_VERSION
from bikeflow.feeds.wrm.document import Document, read_document
from bikeflow.feeds.wrm.parsing import parse_files
from bikeflow.feeds.wrm.text import as_utf8
from bikeflow.segments.dead_letters import dead_letter_lines
from bikeflow.settings.sections import RulesSettings
from tests.support import reference
from tests.support.lines import HEADER, PACKED, bike, raw_file, station
from tests.support.real import SNAPSHOTS
from tests.support.rounds import rounds
from tests.support.wrm import wrm_layout

LAYOUT = wrm_layout("bike-data/gen_info/")
FILE_TIME = dt.datetime(2025, 5, 31, 13, 50, 5, tzinfo=UTC)
KEY = LAYOUT.raw_key(FILE_TIME)
COMBINED = "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"


def raw_text(text: str, key: str = KEY) -> RawContent:
    raw = LAYOUT.raw_file(ObjectInfo(key, len(text), "etag", FILE_TIME))
    assert raw is not None
    return RawContent(raw, "md5", text.encode())


def document_of(file: RawContent) -> Document:
    """The lines of a raw file."""
    return read_document(as_utf8(file.data))


def parse(*lines: str, header: str = HEADER) -> ParsedFile:
    return parse_text(raw_file(*lines, header=header))


def parse_text(text: str) -> ParsedFile:
    (parsed,) = parse_files([raw_text(text)], RulesSettings())
    assert parsed.lines == parsed.rows + parsed.rejected
    return parsed


def rejection(line: str) -> tuple[str | None, str]:
    """Column and check of the one dead letter of a file with this line between two good ones."""
    parsed = parse(station(1), line, station(2))
    assert parsed.table["station_id"].to_pylist() == ["1", "2"]
    (letter,) = parsed.dead_letters
    assert (letter.source_key, letter.line_number, letter.raw_line) == (KEY, 3, line)
    return letter.column, letter.check


def test_a_good_line_gives_a_row_with_all_columns() -> None:
    parsed = parse(
        '15002,1747073407.947741|-7200|-3600,"Dworzec Główny, południe",51.097108,17.03611,9,3,true,false,'
        "false,12,false,0"
    )
    assert parsed.table.to_pylist() == [
        {
            "station_id": "15002",
            "name": "Dworzec Główny, południe",
            "timestamp": dt.datetime(2025, 5, 12, 18, 10, 7, 947741, UTC).replace(tzinfo=None),
            "gmt_local_diff_sec": -7200,
            "gmt_servertime_diff_sec": -3600,
            "lat": 51.097108,
            "lon": 17.03611,
            "bikes": 9,
            "spaces": 3,
            "installed": True,
            "locked": False,
            "temporary": False,
            "total_docks": 12,
            "givesbonus_acceptspedelecs_fbbattlevel": False,
            "pedelecs": 0,
            "record_type": "station",
            "s3_source_key": KEY,
            "file_timestamp": FILE_TIME.replace(tzinfo=None),
            "date": FILE_TIME.date(),
            "processed_at": FILE_TIME.replace(tzinfo=None),
            "battery_level": None,
            "quality_flags": ["stale_timestamp"],
            **dict.fromkeys(ADDED),
        }
    ]


@pytest.mark.parametrize(
    ("line", "column", "check"),
    [
        (station(9) + ",extra", None, "field_count"),
        ("just some words", None, "field_count"),
        (station(9, packed="1748699405.4"), COMBINED, "packed"),
        (station(9, packed="1748699405|-7200|-3600|1"), COMBINED, "packed"),
        (station(9, packed="nan|-7200|-3600"), COMBINED, "packed"),
        (station(9, packed="1e300|-7200|-3600"), COMBINED, "packed"),
        (station(9, packed="-9223372036854|-7200|-3600"), COMBINED, "packed"),
        (station(9, packed="1748699405.4|-7200 |-3600"), COMBINED, "packed"),
        (station(9, id=""), "station_id", "required"),
        (station(9, name=""), "name", "required"),
        (station(9, bikes=""), "bikes", "required"),
        (station(9, bikes="5+"), "bikes", "type"),
        (station(9, bikes=" 5"), "bikes", "type"),
        (station(9, bikes="0x5"), "bikes", "type"),
        (station(9, bikes="5.0"), "bikes", "type"),
        (station(9, bikes="٣"), "bikes", "type"),
        (station(9, bikes="9223372036854775808"), "bikes", "type"),
        (station(9, bikes="-1"), "bikes", "range"),
        (station(9, spaces="-1"), "spaces", "range"),
        (station(9, pedelecs="-1"), "pedelecs", "range"),
        (station(9, total_docks="0"), "total_docks", "range"),
        (station(9, lat="90.1"), "lat", "range"),
        (station(9, lon="-180.1"), "lon", "range"),
        (station(9, lat="NaN"), "lat", "type"),
        (station(9, lat="inf"), "lat", "type"),
        (station(9, lat="1e999"), "lat", "type"),
        (station(9, locked="True"), "locked", "type"),
        (station(9, installed="1"), "installed", "type"),
        (station(1), "station_id", "unique"),
    ],
)  # fmt: skip
def test_an_impossible_line_is_rejected_with_its_reason_and_costs_only_itself(
    line: str, column: str | None, check: str
) -> None:
    assert rejection(line) == (column, check)


def test_a_line_rejected_earlier_does_not_make_its_id_a_duplicate() -> None:
    parsed = parse(station(7, bikes="-1"), station(7), station(7, name="again"))
    assert parsed.table["name"].to_pylist() == ["Plac 7"]
    assert [(letter.line_number, letter.check) for letter in parsed.dead_letters] == [(2, "range"), (4, "unique")]


@pytest.mark.parametrize(
    ("served", "given", "level"),
    [("true", True, None), ("false", False, None), ("-1", False, None), ("0", False, 0), ("51", False, 51),
     ("100", False, 100), ("101", False, None), ("", False, None), ("5.5", False, None), (" 5", False, None)],
)  # fmt: skip
def test_the_shared_column_gives_a_boolean_and_a_battery_level_and_never_rejects(
    served: str, given: bool, level: int | None
) -> None:
    row = parse(bike(1, battery=served)).table.to_pylist()[0]
    assert (row["givesbonus_acceptspedelecs_fbbattlevel"], row["battery_level"]) == (given, level)


def test_the_shared_column_is_optional() -> None:
    header = HEADER.replace(",givesbonus_acceptspedelecs_fbbattlevel", "")
    row = parse(station(1).replace(",false,0", ",0"), header=header).table.to_pylist()[0]
    assert (row["givesbonus_acceptspedelecs_fbbattlevel"], row["battery_level"], row["pedelecs"]) == (False, None, 0)


@pytest.mark.parametrize(
    ("line", "kind"),
    [(station(1), "station"), (bike(1), "bike"), (station(1, name="BIKE 1"), "unknown"),
     (station(1, id="a1"), "unknown"),
     (bike(1, name="Rower"), "unknown"), (station(1, id="٣"), "unknown")],
)  # fmt: skip
def test_a_record_is_classified_by_id_and_name(line: str, kind: str) -> None:
    assert parse(line).table["record_type"].to_pylist() == [kind]


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, []),
        ({"lat": "52.2", "lon": "21.0"}, ["outside_service_area"]),
        ({"lat": "51.25", "lon": "17.25"}, []),
        ({"bikes": "6"}, []),
        ({"bikes": "16", "spaces": "1"}, []),
        ({"bikes": "17", "spaces": "0"}, ["over_capacity"]),
        ({"bikes": "9223372036854775807", "spaces": "9223372036854775807"}, ["over_capacity"]),
        ({"packed": f"{FILE_TIME.timestamp() + 301}|0|0"}, ["future_timestamp"]),
        ({"packed": f"{FILE_TIME.timestamp() + 300}|0|0"}, []),
        ({"packed": f"{FILE_TIME.timestamp() - 86_401}|0|0"}, ["stale_timestamp"]),
        ({"packed": "0|0|0", "lat": "0", "bikes": "17"}, ["outside_service_area", "over_capacity", "stale_timestamp"]),
    ],
)
def test_an_odd_row_is_kept_and_flagged(changes: dict[str, str], flags: list[str]) -> None:
    assert parse(station(1, **changes)).table["quality_flags"].to_pylist() == [flags]


def test_reordered_and_unknown_columns_are_found_by_name() -> None:
    header = "id,when,pedelecs,name,colour,lat,lon,bikes,spaces,installed,locked,temporary,total_docks"
    parsed = parse(f"1,{PACKED},2,Rynek,red,51.1,17.0,1,2,true,false,false,3", header=header)
    row = parsed.table.to_pylist()[0]
    assert (row["pedelecs"], row["name"], row["bikes"], row["total_docks"]) == (2, "Rynek", 1, 3)
    assert parsed.unknown_columns == ("colour",)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (raw_file(station(1), station(2), header=HEADER.replace("bikes", "rowery")), "bikes"),
        ("<html>\n<body>502</body>\n</html>\n", None),
        ("", None),
    ],
)
def test_a_file_that_can_not_be_read_gives_one_dead_letter_without_a_line(text: str, column: str | None) -> None:
    parsed = parse_text(text)
    (letter,) = parsed.dead_letters
    assert (letter.line_number, letter.column, letter.check) == (None, column, "header")
    assert parsed.rows == 0


def test_a_header_alone_gives_no_row_and_no_dead_letter() -> None:
    parsed = parse()
    assert (parsed.lines, parsed.rows, parsed.dead_letters) == (0, 0, ())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_are_no_data_lines_but_count_as_lines(end: str) -> None:
    parsed = parse_text(end.join([HEADER, "", station(1), "", "", "bad", station(2)]))
    assert parsed.table["station_id"].to_pylist() == ["1", "2"]
    assert [letter.line_number for letter in parsed.dead_letters] == [6]


def test_a_line_break_inside_quotes_belongs_to_the_name() -> None:
    parsed = parse(station(1, name='"Rynek\nRatusz"'), "bad", station(2))
    assert parsed.table["name"].to_pylist() == ["Rynek\nRatusz", "Plac 2"]
    assert [(letter.line_number, letter.raw_line) for letter in parsed.dead_letters] == [(4, "bad")]


def test_an_open_quote_costs_only_its_own_line() -> None:
    parsed = parse(station(1), station(2, name='"Rynek'), station(3), station(4, name='"Plac, Solny"'), station(5))
    assert parsed.table["station_id"].to_pylist() == ["1", "3", "4", "5"]
    assert [letter.line_number for letter in parsed.dead_letters] == [3]


def test_quotes_inside_a_field_are_kept() -> None:
    parsed = parse(station(1, name='"Kino ""Nowe"""'), station(2, name='Kino "Nowe"'), station(3, name="„Rynek” 1"))
    assert parsed.table["name"].to_pylist() == ['Kino "Nowe"', 'Kino "Nowe"', "„Rynek” 1"]


def test_dead_letters_are_one_json_object_a_line() -> None:
    parsed = parse(station(1, bikes="5+"), "zły")
    first, second = dead_letter_lines(parsed.dead_letters, FILE_TIME).decode().splitlines()
    assert json.loads(first) == {
        "source_key": KEY,
        "line_number": 2,
        "raw_line": station(1, bikes="5+"),
        "column": "bikes",
        "check": "type",
        "value": "5+",
        "message": "bikes must be a whole number of 64 bits",
        "rejected_at": "2025-05-31T13:50:05Z",
    }
    assert json.loads(second)["raw_line"] == "zły"


def test_one_bad_file_of_a_batch_leaves_the_others_alone() -> None:
    texts = [raw_file(station(1)), "garbage", raw_file(station(1, bikes="x"), station(2)), raw_file(station(3))]
    keys = [LAYOUT.raw_key(FILE_TIME + dt.timedelta(seconds=n)) for n in range(4)]
    parsed = parse_files([raw_text(text, key) for text, key in zip(texts, keys, strict=True)], RulesSettings())
    assert [item.table["station_id"].to_pylist() for item in parsed] == [["1"], [], ["2"], ["3"]]
    assert [set(item.table["s3_source_key"].to_pylist()) for item in parsed] == [{keys[0]}, set(), {keys[2]}, {keys[3]}]
    assert [item.rejected for item in parsed] == [0, 0, 1, 0]


COMPARED = ("station_id", "name", "gmt_local_diff_sec", "gmt_servertime_diff_sec", "lat", "lon", "bikes", "spaces",
            "installed", "locked", "temporary", "total_docks", "givesbonus_acceptspedelecs_fbbattlevel", "pedelecs",
            "battery_level")  # fmt: skip

odd_values = st.sampled_from(
    ["", " ", "5+", "+5", "-5", "05", "-0", "5.", ".5", "1e2", "1E+2", "1e400", "nan", "inf", "Infinity", "0x1F", " 5",
     "5 ", "\t5", "5_0", "٣", "true", "True", "TRUE", "1", "0", "-1", "9223372036854775807", "9223372036854775808",
     "99999999999999999999999", "-9223372036854775809", "91", "-91", "181", "1|2", "|", "||", "1||3", "1|2|3|4",
     "1e3|2|3", "1|2.0|3", "9007199254740993|0|0", "9223372036854|1|1", "-9223372036854|1|1",
     "-9223372022400|1|1", "1e18|1|1", '"', '""', '"a"', 'a"b', '"a"b',
     '"a,b"', '"a, b"', '"5"', '" 5"', '"5 "', '"0x1F"', '"1.5"', '"true"', '"5', '5"', '"a" ', ' "a"',
     '"a,"b"', '""a""', "a,b", "\x00", "\x0b", "\x85", "\u2028", "BIKE 1", "fb1", "null", "NA", "#N/A"]
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=8)
mutations = st.tuples(st.integers(0, 12), st.one_of(odd_values, texts))


@st.composite
def mutated_lines(draw: st.DrawFn) -> str:
    line = draw(st.sampled_from([station(draw(st.integers(1, 6))), bike(draw(st.integers(1, 3))), "", "x"]))
    fields = line.split(",")
    for position, value in draw(st.lists(mutations, max_size=2)):
        if position < len(fields):
            fields[position] = value
    line = ",".join(fields)
    if draw(st.integers(0, 9)) == 0:
        line = line[: draw(st.integers(0, len(line)))]
    return line


def opens_a_quote(line: str) -> bool:
    """Whether the csv module would look for the rest of this record in the next line."""
    reader = csv.reader([line + "\n", "next"])
    next(reader)
    return reader.line_num > 1


@settings(max_examples=rounds(100, 400))
@given(st.lists(st.lists(mutated_lines(), max_size=8), min_size=1, max_size=4), st.booleans())
@example([["1,9223372036854|1|1,Plac 1,51.108004,17.039528,5,11,true,false,false,16,false,0"]], False)
def test_the_columnar_path_agrees_with_a_line_by_line_reference(files: list[list[str]], crlf: bool) -> None:
    files = [[line for line in lines if not opens_a_quote(line)] for lines in files]
    end = "\r\n" if crlf else "\n"
    contents = [end.join([HEADER, *lines]) for lines in files]
    keys = [LAYOUT.raw_key(FILE_TIME + dt.timedelta(seconds=n)) for n in range(len(files))]
    parsed = parse_files([raw_text(text, key) for text, key in zip(contents, keys, strict=True)], RulesSettings())
    for text, item in zip(contents, parsed, strict=True):
        rows, rejected = reference.read(text)
        found = item.table.select(COMPARED).to_pylist()
        assert found == [{name: row[name] for name in COMPARED} for row in rows]
        assert item.table["timestamp"].cast("int64").to_pylist() == [row["timestamp"] for row in rows]
        file_us = round(item.raw.time.timestamp() * 1_000_000)
        assert item.table["quality_flags"].to_pylist() == [reference.flags(row, file_us) for row in rows]
        assert [letter.line_number for letter in item.dead_letters] == rejected
        assert item.lines == item.rows + item.rejected == len(rows) + len(rejected)


@settings(max_examples=rounds(100, 300))
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.booleans())
def test_no_text_at_all_raises_and_the_conservation_law_holds(text: str, with_header: bool) -> None:
    parsed = parse_text(f"{HEADER}\n{text}" if with_header else text)
    assert parsed.lines == parsed.rows + parsed.rejected


def test_the_real_snapshots_come_out_whole() -> None:
    contents = [path.read_text(encoding="utf-8") for path in SNAPSHOTS]
    keys = [f"{LAYOUT.raw}{path.parent.name}/{path.name}" for path in SNAPSHOTS]
    parsed = parse_files([raw_text(text, key) for text, key in zip(contents, keys, strict=True)], RulesSettings())
    assert sum(item.rows for item in parsed) == 1798
    assert sum(item.rejected for item in parsed) == 0
    for text, item in zip(contents, parsed, strict=True):
        rows, _ = reference.read(text)
        assert [{name: row[name] for name in COMPARED} for row in item.table.to_pylist()] == [
            {name: row[name] for name in COMPARED} for row in rows
        ]
        file_us = round(item.raw.time.timestamp() * 1_000_000)
        assert item.table["quality_flags"].to_pylist() == [reference.flags(row, file_us) for row in rows]


def test_real_stations_are_over_capacity_only_with_more_bikes_than_docks() -> None:
    """The feed says one space where there is none: 32 stations that are exactly full are not over capacity."""
    flagged = []
    for path in SNAPSHOTS:
        rows = parse_text(path.read_text(encoding="utf-8")).table.to_pylist()
        flagged += [row for row in rows if "over_capacity" in row["quality_flags"]]
    assert len(flagged) == 176
    assert all(row["bikes"] > row["total_docks"] for row in flagged)


def test_other_flags_are_another_version_of_the_rules() -> None:
    """Raise RULES_VERSION with a flag, unless it has a threshold: verify would take older rows for damage."""
    thresholds = {"lat_min", "lat_max", "lon_min", "lon_max", "future_seconds", "stale_seconds"}
    flags = ("outside_service_area", "over_capacity", "future_timestamp", "stale_timestamp")
    assert (RULES_VERSION, tuple(FLAGS), set(RulesSettings.model_fields)) == (2, flags, thresholds)
