"""From the bytes of a feed document to its text: decoding, repair of the encoding, and whether it is one at all.

Fetched documents and raw files that others wrote go the same way. Only `check_document` raises, and only `NotAFeed`.
"""

from __future__ import annotations

import codecs
import csv
import re

import ftfy
import pyarrow as pa
from ftfy.badness import is_bad

from bikeflow.errors import NotAFeed
from bikeflow.schema import BATTERY, REQUIRED

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
_NOT_ASCII = re.compile("[^\x00-\x7f]+")
_NEITHER_LATIN_NOR_SIGN = re.compile("[^\x00-\u017f\u0218-\u021b\u0300-\u036f\u1e00-\u1eff\u2000-\u27ff\ufeff]")

# Only what is certain to be mojibake: spaces that might have been U+00A0 and characters that are lost are not guessed.
# (`ftfy.fix_text` would ignore these choices unless it also explains, so the step that heeds them is called directly.)
_TOGETHER = ftfy.TextFixerConfig(
    unescape_html=False,
    restore_byte_a0=False,
    replace_lossy_sequences=False,
    decode_inconsistent_utf8=False,
    fix_c1_controls=False,
    normalization=None,
)
_ALONE = _TOGETHER._replace(decode_inconsistent_utf8=True)

KNOWN_COLUMNS = frozenset({*REQUIRED, BATTERY})
NEEDED_COLUMNS = 3
"""So many known column names make a header; which ones are missing is for the processor to judge."""
LONGEST_HEADER = 10_000
MANY_LINES = 5
"""So many lines that are not ASCII, all of them mojibake in the same way, can't be so by accident."""


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


def repair(text: str) -> str:
    """The text with mojibake undone ('GÅ‚Ã³wny' is 'Główny') and nothing else changed.

    Every ASCII character keeps its place, so the result has the same CSV lines and fields whoever parses it; what can't
    be repaired without breaking that stays as served. ftfy judges all lines together first: it recognises among many
    what a single short name doesn't give away.
    """
    lines = text.split("\n")
    suspects = [number for number, line in enumerate(lines) if not line.isascii()]
    served = "\n".join(lines[number] for number in suspects)
    if not is_bad(served):
        return text
    together = _repaired(served, _TOGETHER) if len(suspects) >= MANY_LINES else served
    repaired = together.split("\n")
    if together == served:
        repaired = [_repaired_alone(line) for line in repaired]
    for number, line in zip(suspects, repaired, strict=True):
        lines[number] = line
    return "\n".join(lines)


def check_document(text: str) -> None:
    """Raise `NotAFeed` unless the first line that isn't blank is a feed's header.

    A column that is missing, added or elsewhere makes it no less a feed, nor does a missing or truncated line: those
    are rejected later, one by one, and nothing is lost.
    """
    head = _LINE_END.split(text.lstrip("\r\n")[:LONGEST_HEADER], maxsplit=1)[0]
    if len(KNOWN_COLUMNS.intersection(_names(head))) < NEEDED_COLUMNS:
        raise NotAFeed(f"not a feed document: {_described(text)}")


def _names(header: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([header]), [])]
    except csv.Error:
        return []


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


def _repaired(text: str, config: ftfy.TextFixerConfig) -> str:
    repaired, plan = ftfy.fix_encoding_and_explain(text, config)
    # ftfy also takes C1 controls for windows-1252, which no option turns off; in Poland that is a wrong guess.
    guessed = any(step.action == "decode" and step.parameter == "windows-1252" for step in plan or ())
    return text if guessed or _skeleton(repaired) != _skeleton(text) else repaired


def _repaired_alone(line: str) -> str:
    repaired = _repaired(line, _ALONE)
    # A few Polish letters in a row can be valid UTF-8 by accident: 'ćŁą' would become '棹'. Many lines can't.
    garbled = _NEITHER_LATIN_NOR_SIGN.search("".join(set(repaired).difference(line)))
    return line if garbled else repaired


def _skeleton(text: str) -> str:
    """All ASCII characters, and where something else stood between them."""
    return _NOT_ASCII.sub("\x80", text)
