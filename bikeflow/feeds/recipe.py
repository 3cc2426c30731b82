"""Under which rules the rows of a raw file were flagged, as a footer tells it.

The text holds the rules themselves: they can be applied again after the configuration has changed. Files
that were written before have a digest instead (12 hexadecimal digits), or nothing.
"""

from __future__ import annotations

import re

from bikeflow.settings.sections import RulesSettings

RULES_VERSION = 2
"""Raise it whenever the same file under the same [rules] gives other rows than before.

2: `over_capacity` compares bikes, not bikes and spaces, with docks; timestamps are rounded exactly; fields of any size.
"""

_FORM = re.compile(r"|[0-9a-f]{12}|\d+( -?\d[\d.e+-]*)+")


def recipe_of(rules: RulesSettings) -> str:
    """What a footer tells of these rules, for example `2 51.0 51.25 16.75 17.25 300.0 86400.0`."""
    return " ".join([str(RULES_VERSION), *(str(float(value)) for value in rules.model_dump().values())])


def rules_of(recipe: str) -> RulesSettings | None:
    """The rules that a footer tells of; None where this version can't apply them as they were meant."""
    version, *values = recipe.split(" ")
    if version != str(RULES_VERSION) or len(values) != len(RulesSettings.model_fields):
        return None
    try:
        return RulesSettings.model_validate(dict(zip(RulesSettings.model_fields, values, strict=True)))
    except ValueError:
        return None


def is_recipe(text: str) -> bool:
    """Whether any version can have written this."""
    return _FORM.fullmatch(text) is not None
