"""Which lines the quick reader takes: all ordinary ones, and none that it reads otherwise than the contract does."""

from __future__ import annotations

import re

import pytest

from bikeflow.feeds.wrm import columnar
from bikeflow.feeds.wrm.document import Header, Record, Rejected, records
from bikeflow.feeds.wrm.exact import battery_level, typed
from bikeflow.feeds.wrm.lines import sort_out
from bikeflow.simulator import City
from tests.feeds.test_parsing import FILE_TIME, document_of, raw_text
from tests.support.lines import bike, raw_file, station
from tests.support.real import SNAPSHOTS

LARGEST, SMALLEST = 2**63 - 1, -(2**63)


def odd_lines(*texts: str) -> tuple[int, list[int], list[int]]:
    """How many lines the quick reader takes of these raw files, the numbers of the odd ones, and the tangled files."""
    files = [raw_text(text) for text in texts]
    documents = [document_of(file) for file in files]
    found = sort_out(documents, range(len(documents)))
    return len(found.plain), [record.line_number for _, record in found.odd], found.tangled


def test_no_line_of_the_real_feed_is_odd() -> None:
    assert odd_lines(*(path.read_text(encoding="utf-8") for path in SNAPSHOTS)) == (1798, [], [])


@pytest.mark.parametrize("more_digits", ["", "000", "500", "499", "9999"])
def test_no_line_of_the_real_feed_is_read_one_by_one(more_digits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it told nanoseconds."""

    def refuse(record: Record, header: Header) -> dict[str, object]:
        raise AssertionError(record)

    monkeypatch.setattr(columnar, "typed", refuse)
    texts = [re.sub(r"(\.\d{6})\|", rf"\g<1>{more_digits}|", path.read_text(encoding="utf-8")) for path in SNAPSHOTS]
    files = [raw_text(text) for text in texts]
    documents = [document_of(file) for file in files]
    table, broken = columnar.parse(documents)
    assert (table.num_rows, broken) == (1798, [])


def test_no_line_of_the_simulated_feed_is_odd() -> None:
    document = City(1).snapshot(FILE_TIME)
    assert odd_lines(document) == (document.count("\n") - 1, [], [])


@pytest.mark.parametrize(
    "line",
    [
        station(9, name='"Plac, Solny"'),
        station(9, name='"Kino ""Nowe"""'),
        station(9, name='"""Nowe"" kino"'),
        station(9, name='""""'),
        station(9, name="Rynek x Ratusz x"),
        station(9, name="„Rynek”"),
        station(9, name='"Plac, Solny, północ"'),
        f'"9"{station(9)[1:]}',
        station(9)[:-1] + '"1"',
    ],
)
def test_an_ordinary_line_is_taken(line: str) -> None:
    assert odd_lines(raw_file(line, bike(1), line)) == (3, [], [])


@pytest.mark.parametrize(
    "line",
    [
        "9,1|1|1,Rynek,51.1,17.1,0x5,2,true,false,false,3,false,1",
        "9,1|1|1,Rynek,51.1,17.1,0X5,2,true,false,false,3,false,1",
        station(9, bikes="\t5"),
        station(9, bikes=" 5"),
        station(9, bikes="5 "),
        station(9, bikes='" 5"'),
        station(9, bikes='"5 "'),
        station(9) + " ",
        station(9, name='Kino "Nowe"'),
        station(9, name='"Kino"Nowe'),
        station(9, name='"Kino" '),
        station(9, name=' "Kino"'),
    ],
)
def test_a_line_that_arrow_would_read_otherwise_is_left_to_the_exact_reading(line: str) -> None:
    plain, odd, _ = odd_lines(raw_file(bike(1), line, bike(2)))
    assert (plain, odd) == (2, [3])


@pytest.mark.parametrize("sign", ["", "+"])
@pytest.mark.parametrize("zeros", ["", "0", "0" * 30])
def test_whole_numbers_of_64_bits_are_read_exactly_to_the_last(sign: str, zeros: str) -> None:
    """Numbers of 19 digits, at both ends of what fits."""
    read = [read_exactly(f"{sign}{zeros}{value}") for value in (LARGEST, LARGEST + 1, 10**18, 10**19)]
    assert read == [LARGEST, None, 10**18, None]
    if not sign:
        assert [read_exactly(f"-{zeros}{-value}") for value in (SMALLEST, SMALLEST - 1)] == [SMALLEST, None]


def test_a_battery_level_has_at_most_three_digits_beside_its_zeros() -> None:
    served = ["100", "0100", "101", "0101", "1000", "000", "00099", "", "-1", "+5"]
    assert [battery_level(text) for text in served] == [100, 100, None, None, None, 0, 99, None, None, None]


def read_exactly(number: str) -> object:
    """What the exact reading makes of a number of bikes."""
    file = raw_text(raw_file(station(1, bikes=number)))
    document = document_of(file)
    (record,) = records(document)
    try:
        return typed(record, document.header)["bikes"]
    except Rejected:
        return None
