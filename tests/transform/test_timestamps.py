"""Timestamps of any number of digits are rounded exactly: half to even, from the text, whichever way is taken."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bikeflow.transform.columnar import parse
from bikeflow.transform.document import read_document
from tests.support import reference
from tests.support.lines import raw_file, station
from tests.support.rounds import rounds
from tests.transform.test_parsing import raw_text

EARLIEST, LATEST = -9_223_372_022_400_000_000, 2**63 - 2
"""What a timestamp can hold, in microseconds."""
whole_microseconds = st.one_of(
    st.integers(1_747_000_000_000_000, 1_748_800_000_000_000),
    st.integers(EARLIEST, LATEST),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 2**51, 2**53, EARLIEST, EARLIEST - 1, LATEST, LATEST + 1, 2**33 * 10**6]),
)
beyond = st.one_of(
    st.sampled_from(["", "0", "5", "50", "500000000000000001", "4999999999999999999", "49", "51", "1", "9", "95"]),
    st.text("0123456789", max_size=40),
    st.integers(1, 500).map(lambda size: "5" + "0" * size),
    st.integers(1, 500).map(lambda size: "5" + "0" * size + "1"),
)
"""The digits after the microseconds: ties, nearly ties, and any others."""


def plain(microseconds: int, digits: str) -> str:
    """A number of seconds in plain decimals."""
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    return f"{'-' if microseconds < 0 else ''}{seconds}.{fraction:06}{digits}"


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """The same number in one of its notations."""
    text = plain(draw(whole_microseconds), draw(beyond))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return text.rstrip("0")
    if kind == 1:
        shift = draw(st.integers(1, 40))
        sign, digits = text[: -len(text.lstrip("-"))], text.lstrip("-")
        seconds, fraction = digits.split(".")
        fraction = fraction.ljust(shift, "0")
        return f"{sign}{seconds}{fraction[:shift]}.{fraction[shift:]}e-{shift}"
    if kind == 2:
        return text.replace("-", "-" + "0" * draw(st.integers(1, 50))) if text.startswith("-") else f"+000{text}"
    return text


def read(texts: list[str], *, alone: bool) -> list[int | None]:
    """The microseconds that the columnar reading, or the exact one, makes of each number; None where it is rejected."""
    lines = [station(n, packed=f"{text}|-7200|-3600") for n, text in enumerate(texts)]
    # Arrow refuses this line, and with it all of the few lines around it.
    lines += [] if alone else [station(len(texts), bikes="5+")]
    file = raw_text(raw_file(*lines))
    table, _ = parse([read_document(file.raw.key, file.raw.time, file.raw.partition, file.text)])
    found = dict(zip(table["line"].to_pylist(), table["timestamp"].to_pylist(), strict=True))
    return [found.get(n + 2) for n in range(len(texts))]


def wanted(text: str) -> int | None:
    """By Python's fractions and the contract."""
    microseconds = round(Fraction(text) * 1_000_000)
    return microseconds if EARLIEST <= microseconds <= LATEST else None


@settings(max_examples=rounds(150, 600))
@given(st.lists(numbers(), min_size=1, max_size=5))
@example(["1748699405.4711065"])
@example(["1748699405.4711075"])
@example(["0.0000005"])
@example(["30000000000000000000000000000000000."])
@example(["1747000000000000000000000000000000000000e-30"])
@example(["9e35"])
@example(["18448492773115.022722"])  # 2**64 microseconds more than 1748699405.471106
@example(["-18444995374304.080510"])
@example(["-0.0000005"])
@example(["8589934592.0000005"])
@example(["9223372036854.7758065"])
@example(["-9223372022400.0000005"])
@example(["174869940547110650000001e-14"])
@example(["1748699405.4711065" + "0" * 500 + "1"])
def test_a_timestamp_is_rounded_half_to_even_from_its_text_by_both_readings(texts: list[str]) -> None:
    expected = [wanted(text) for text in texts]
    assert read(texts, alone=True) == expected
    assert read(texts, alone=False) == expected
    assert [reference.microseconds_of(text) for text in texts] == [round(Fraction(text) * 1_000_000) for text in texts]


@pytest.mark.parametrize("text", ["1e-400", "0e400", "-1e-99999999999999999999", "0e99999999999999999999", "-0.0"])
def test_what_is_next_to_nothing_is_the_epoch_whatever_its_exponent(text: str) -> None:
    assert read([text], alone=True) == read([text], alone=False) == [0]
