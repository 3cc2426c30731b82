"""Raw files parsed so that one that takes more memory than there is costs no other."""

from __future__ import annotations

from collections.abc import Sequence

from bikeflow.core.schema import ENCODED
from bikeflow.feeds.base import DeadLetter, Format, ParsedFile, RawContent
from bikeflow.feeds.recipe import recipe_of
from bikeflow.runtime.log import get_logger
from bikeflow.settings.sections import RulesSettings

OUT_OF_MEMORY = "memory"
"""The check that such a file fails; `dlq replay` tries it again."""
log = get_logger()


def parse_within_memory(format_: Format, files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
    """Parse all files at once, or where there is not enough memory for that, one by one.

    One that takes too much by itself gives a dead letter, as one that can't be read at all.
    """
    try:
        return format_.parse(files, rules)
    except MemoryError:
        if len(files) == 1:
            return [_given_up(format_, files[0], rules)]
    return [parsed for file in files for parsed in parse_within_memory(format_, [file], rules)]


def _given_up(format_: Format, file: RawContent, rules: RulesSettings) -> ParsedFile:
    log.error("raw_file_takes_too_much_memory", key=file.raw.key, bytes=len(file.data))
    try:
        records = format_.count_records(file.data).records
    except MemoryError:
        records = 0
    message = "there is not enough memory to read this file; `bikeflow dlq replay` tries again"
    letter = DeadLetter(file.raw.key, None, "", None, OUT_OF_MEMORY, None, message)
    return ParsedFile(file.raw, file.md5, ENCODED.empty_table(), records, records, (letter,), recipe_of(rules))
