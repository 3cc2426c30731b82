"""From the bytes of a feed document to its text: decoding, and whether it is one at all.

Fetched documents and raw files that others wrote go the same way. Only `check_document` raises, and only `NotAFeed`.
"""

from __future__ import annotations

import codecs
import re

import pyarrow as pa

from bikeflow.core.errors import NotAFeed
from bikeflow.feeds.wrm.document import KNOWN_COLUMNS, read_fields

_BOM = "\ufeff"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARKED = (codecs.BOM_UTF8, *(mark for mark, _ in _MARKS))
# What a server may declare; Python's other codecs (punycode, unicode_escape, ...) are none of a feed's business.
_SINGLE_BYTE = re.compile(r"iso8859-\d+|cp\d+|koi8-\w|mac-\w+")
_WIDE = re.compile(r"utf-(16|32)(-[lb]e)?")
_LINE_END = re.compile("[\r\n]")
_C1_CONTROL = re.compile("[\x80-\x9f]")

NEEDED_COLUMNS = 3
"""So many known column names make a header; which ones are missing is for the processor to judge."""
LONGEST_HEADER = 10_000


def decode(body: bytes, charset: str | None = None) -> str:
    """The text of a document, without byte order mark; `charset` is what the server declared.

    Valid UTF-8 is UTF-8, whatever was declared: text in another charset is practically never valid UTF-8. Else each
    line is decoded by itself, as UTF-8, the declared charset, cp1250 or latin-1, the first that fits, so that one bad
    byte costs only its own line.
    """
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return body.decode(codec, "replace").lstrip(_BOM)
    declared = _codec_name(charset)
    if _WIDE.fullmatch(declared) and b"\0" in body:
        return body.decode(declared, "replace").lstrip(_BOM)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # the document was cut in the middle of a character
            text = body.decode(errors="replace")
        else:
            text = "\n".join(_decode_line(line, declared) for line in body.split(b"\n"))
    return text.lstrip(_BOM)


def as_utf8(body: bytes) -> bytes:
    """The document as UTF-8, without byte order mark: the text of `decode`, in bytes, and mostly `body` itself.

    Arrow looks at the bytes in a quarter of the time in which Python makes a text of them.
    """
    if not body.startswith(_MARKED):
        ends = pa.array([0, len(body)], pa.int64()).buffers()[1]
        try:
            pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(body)).validate(full=True)
        except pa.ArrowInvalid:
            pass
        else:
            return body
    return decode(body).encode()


def check_document(text: str) -> None:
    """Raise `NotAFeed` unless the first line that isn't blank is a feed's header.

    A column that is missing, added or elsewhere makes it no less a feed, nor does a missing or truncated line: those
    are rejected later, one by one, and nothing is lost.
    """
    head = _LINE_END.split(text.lstrip("\r\n")[:LONGEST_HEADER], maxsplit=1)[0]
    if len(KNOWN_COLUMNS.intersection(name.strip() for name in read_fields(head)[0])) < NEEDED_COLUMNS:
        raise NotAFeed(f"not a feed document: {_described(text)}")


def _described(text: str) -> str:
    start = text.lstrip()[:200].lower()
    if not start:
        return "the answer is empty"
    if "\0" in start:
        return "the answer is binary"
    if start.startswith(("<!doctype html", "<html")):
        return "the answer is an HTML page"
    if start.startswith("<"):
        return "the answer is markup"
    if start.startswith(("{", "[")):
        return "the answer is JSON"
    return f"the answer begins with {text.lstrip()[:40]!r}"


def _codec_name(charset: str | None) -> str:
    try:
        name = codecs.lookup((charset or "").strip()).name
    except (LookupError, ValueError):
        return ""
    if name == "iso8859-1":  # the old default of HTTP: declared without thought, and no charset for Polish
        return ""
    return name if _SINGLE_BYTE.fullmatch(name) or _WIDE.fullmatch(name) else ""


def _decode_line(line: bytes, declared: str) -> str:
    for codec in ("utf-8", declared, "cp1250"):
        if not codec or _WIDE.fullmatch(codec):
            continue
        try:
            text = line.decode(codec)
        except UnicodeDecodeError:
            continue
        if codec == "utf-8" or not _C1_CONTROL.search(text):  # cp1250 declared as iso-8859-2 gives controls
            return text
    return line.decode("latin-1")
