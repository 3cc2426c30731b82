"""Bytes of the feed become the right text, whatever the server says of them, and never lose their structure."""

from __future__ import annotations

import codecs
import csv
import io

import ftfy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bikeflow.errors import NotAFeed
from bikeflow.feeds import FEEDS
from bikeflow.feeds.mojibake import repair
from bikeflow.feeds.text import check_document, decode
from tests.support.lines import HEADER, raw_file, station
from tests.support.real import SNAPSHOTS
from tests.support.rounds import rounds

NAMES = (
    "Dworzec Główny",
    '"Dworzec Główny, południe"',
    "„Rynek” 1",
    "Żeromskiego / Kluczborska",
    "Śrubowa – Ćwiartki",
    "al. Piastów",
    "pl. Orląt Lwowskich",
    "Jeździecka",
    "Plac Legionów",
    "Kościół św. Elżbiety (Łąki)",
    "ŹRÓDLANA PÓŁNOC",
    "’x’ … ½ × 50 °C",
    "ﬁrma Ｗｉｄｅ &amp; S\u0301",
)
TEXT = raw_file(*(station(15001 + number, name=name) for number, name in enumerate(NAMES)))


def mojibake(text: str, charset: str) -> str:
    return text.encode().decode(charset)


@pytest.mark.parametrize("charset", [None, "utf-8", "UTF8", "latin-1", "cp1250", "no-such-charset", "", "\0", "hex"])
def test_utf_8_is_read_as_such_whatever_was_declared(charset: str | None) -> None:
    assert decode(TEXT.encode(), charset) == TEXT


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides_and_is_no_part_of_the_text(mark: str) -> None:
    assert decode(TEXT.encode(mark), "latin-1") == TEXT


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be", "UTF-32LE"])
def test_wide_charsets_need_a_declaration_only(charset: str) -> None:
    assert decode(TEXT.encode(charset), charset) == TEXT


@pytest.mark.parametrize("charset", ["cp1250", None, "latin-1", "us-ascii", "punycode", "unicode_escape"])
def test_cp1250_is_read_even_when_nobody_declares_it_rightly(charset: str | None) -> None:
    text = raw_file(station(name="Dworzec Główny"), station(15002, name="Śrubowa – Jeździecka"))
    assert decode(text.encode("cp1250"), charset) == text


def test_another_charset_is_read_when_it_is_declared() -> None:
    text = raw_file(station(name="Łąkowa"), station(15002, name="Źródlana"))
    assert decode(text.encode("iso-8859-2"), "ISO-8859-2") == text


def test_one_bad_byte_costs_only_its_own_line() -> None:
    lines = [line.encode() for line in TEXT.split("\n")]
    lines[3] = lines[3].replace("ó".encode(), b"\xf3").replace(b"15003", b"15003\x81")
    for charset in (None, "latin-1", "cp1250", "iso-8859-2"):
        read = decode(b"\n".join(lines), charset).split("\n")
        assert [line for number, line in enumerate(read) if number != 3] == [
            line for number, line in enumerate(TEXT.split("\n")) if number != 3
        ]


def test_a_document_that_was_cut_within_a_character_keeps_all_before_it() -> None:
    whole = TEXT.encode()
    cut = whole[: whole.index("ż".encode()) + 1]
    assert decode(cut) == TEXT[: TEXT.index("ż")] + "\ufffd"


def test_line_ends_and_control_characters_are_left_alone() -> None:
    text = "a,b\r\n\x0c1,\x1b[31m2\r3,\u2028ó\n\n"
    assert repair(decode(text.encode())) == text


@given(st.binary(max_size=300), st.sampled_from([None, "utf-16", "utf-8", "cp1250", "iso-8859-2", "mac-roman", "idna"]))
@example(codecs.BOM_UTF16_LE + b"\x00\xd8\x00", None)
@example(b"\xed\xa0\x80,\xc0\x80", None)
def test_any_bytes_become_text_that_can_be_stored(body: bytes, charset: str | None) -> None:
    repair(decode(body, charset)).encode()


def test_correct_names_stay_as_they_are_byte_for_byte() -> None:
    assert repair(TEXT) == TEXT
    for name in NAMES:
        assert repair(name) == name


def test_what_ftfy_would_do_by_default_breaks_the_csv() -> None:
    assert ftfy.fix_text(TEXT) != TEXT, "the defaults have become harmless, and this module could be simpler"


@pytest.mark.parametrize(
    "charset", ["latin-1", "sloppy-windows-1252", "sloppy-windows-1250", "iso-8859-2", "cp437", "macroman"]
)
def test_mojibake_is_undone_for_every_line(charset: str) -> None:
    assert repair(mojibake(TEXT, charset)) == TEXT


def test_mojibake_of_mojibake_is_undone() -> None:
    assert repair(mojibake(mojibake(TEXT, "latin-1"), "latin-1")) == TEXT


def test_lines_of_mojibake_among_good_ones_are_undone() -> None:
    good, bad = station(name="Śrubowa"), station(15002, name=mojibake("Dworzec Główny", "sloppy-windows-1252"))
    assert repair(raw_file(good, bad)) == raw_file(good, station(15002, name="Dworzec Główny"))


def test_mojibake_beside_correct_text_in_one_name_is_undone() -> None:
    assert repair("„GÅ‚Ã³wny” – Świdnicka") == "„Główny” – Świdnicka"


@pytest.mark.parametrize("name", ["ulica \x9cw. Jana", "Ã, Ä", "tak \xe2\u20ac\ufffd"])
def test_what_would_only_be_guessed_stays_as_served(name: str) -> None:
    assert repair(name) == name


@pytest.mark.parametrize("name", ["À\x80,1", "â\x9c á, b", "aÃâÂ , 1"])
def test_a_repair_that_would_take_an_ascii_character_is_none(name: str) -> None:
    assert ftfy.fix_encoding(name) != name
    assert repair(name) == name


MOJIBAKE_PARTS = "ÃÅÄâ€œ\x82\x84\x85\x9c\xa0\xad\ufffdÂĹł™"
NOISE = st.text(st.sampled_from([*"a1 ,\"\n\r;'", *"łóąŚ„”’–", *MOJIBAKE_PARTS]), max_size=60)


@settings(max_examples=rounds(100, 300))
@given(st.one_of(NOISE, st.text(max_size=40).map(lambda text: mojibake(text, "latin-1")), st.text(max_size=60)))
@example('Ã  la, "Ã "')
@example("À\x80,1")
def test_repair_never_changes_the_structure(text: str) -> None:
    repaired = repair(text)
    assert [len(row) for row in rows(repaired)] == [len(row) for row in rows(text)]
    for before, after in zip(rows(text), rows(repaired), strict=True):
        for old, new in zip(before, after, strict=True):
            assert old == new or not old.isascii()


@settings(max_examples=rounds(100, 300))
@given(st.text(st.sampled_from("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ„”’–… aA1,")))
@example("ćŁą")
@example("óą”ą")
@example("ŻÓŁĆ żółć ŁÓDŹ")
@example("aĆ„")
def test_no_row_of_polish_letters_is_taken_for_mojibake(text: str) -> None:
    assert repair(text) == text


def rows(text: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:
        return []


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        HEADER,
        HEADER + "\n",
        "\r\n" + TEXT,
        TEXT[:-9],
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        raw_file(header=HEADER.replace(",lat", "")),
        raw_file(header=HEADER.replace("name,lat,lon", "lon , lat,name,colour")),
        raw_file(header=HEADER.replace("#id", "uid").replace("timestamp|gmt_local_diff_sec|", "t|")),
        raw_file(header=HEADER.replace("name", '"name"')),
    ],
)
def test_a_feed_document_is_one_even_when_it_is_odd(text: str) -> None:
    check_document(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("<!DOCTYPE html><html><body>name,lat,lon,bikes</body></html>", "HTML page"),
        ("\n <HTML><title>502 Bad Gateway</title></HTML>", "HTML page"),
        ('<?xml version="1.0"?><feed/>', "markup"),
        ('{"name": "Rynek", "lat": 51.1, "lon": 17.0}', "JSON"),
        ("[]", "JSON"),
        ("\x89PNG\r\n\x1a\n\0\0\0", "binary"),
        ("Fatal error: Allowed memory size exhausted", "'Fatal error: Allowed memory size exhaust'"),
        (station() + "\n", "'15001,1748699405"),
        ('"unclosed,name,lat,lon', "unclosed"),
    ],
)
def test_what_is_no_feed_document_is_called_by_its_name(text: str, reason: str) -> None:
    with pytest.raises(NotAFeed, match=f"not a feed document: .*{reason}"):
        check_document(text)


@given(st.text(max_size=200))
def test_checking_any_text_raises_nothing_else(text: str) -> None:
    try:
        check_document(text)
    except NotAFeed:
        return
    assert "name" in text or "lat" in text or "bikes" in text or "lon" in text


def test_a_page_that_declares_the_wrong_charset_is_stored_right() -> None:
    feed = FEEDS["wrm"]
    assert feed.document(TEXT.encode(), "iso-8859-1") == TEXT
    assert feed.document(mojibake(TEXT, "latin-1").encode(), "utf-8") == TEXT
    with pytest.raises(NotAFeed):
        feed.document(b"<html>", None)


def test_real_snapshots_pass_through_unchanged() -> None:
    assert len(SNAPSHOTS) == 4
    for path in SNAPSHOTS:
        assert FEEDS["wrm"].document(path.read_bytes(), None).encode() == path.read_bytes()
