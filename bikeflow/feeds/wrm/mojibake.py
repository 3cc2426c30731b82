"""Mojibake undone: the repair of a feed document's encoding.

A module of its own, as ftfy takes a while to import, and only what was fetched is ever repaired.
"""

from __future__ import annotations

import re

import ftfy
from ftfy.badness import is_bad

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

MANY_LINES = 5
"""So many lines that are not ASCII, all of them mojibake in the same way, can't be so by accident."""


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
