"""What is wrong with a configuration, one line a problem: where it stands, what it is, what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bikeflow.settings.model import CREDENTIALS, ENVIRONMENT, FIELDS, SECRETS, Given
from bikeflow.settings.sections import FeedSettings, RulesSettings, SystemRules, SystemSettings

_INHERITED: Mapping[str, FieldInfo] = {**FeedSettings.model_fields, **RulesSettings.model_fields}
"""What a `[[systems]]` table takes from other sections where it does not set it."""

_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """`; did you mean "..."?` for the valid name that looks most like `wrong`, or nothing where none does."""
    found = difflib.get_close_matches(wrong, list(valid), n=1, cutoff=0.7)
    return f'; did you mean "{found[0]}"?' if found else ""


def nearest_key(wrong: str) -> str:
    """The same for a setting's flat name; a key under the wrong section, or under none, is found as well."""
    last = wrong.rpartition(".")[2]
    homes = [key for key in FIELDS if key.rpartition(".")[2] == last]
    return f'; did you mean "{homes[0]}"?' if len(homes) == 1 else nearest(wrong, FIELDS)


def shown(value: object) -> str:
    """A value as it would stand in a TOML file, without the password that a URL may hold."""
    text = str(value) if isinstance(value, Path) else value
    return re.sub(r"//[^/\s\"]*@", "//(hidden)@", json.dumps(text, ensure_ascii=False, default=str))


def allowed(field: FieldInfo) -> str:
    """What a setting takes: its kind and range, or its choices."""
    if field.description:
        return field.description
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(field.annotation))
    kind = next((text for type_, text in _KINDS.items() if field.annotation is type_), "text")
    bounds: dict[str, object] = {}
    for constraint in field.metadata:
        bounds |= {name: getattr(constraint, name) for name in ("ge", "gt", "le", "lt") if hasattr(constraint, name)}
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " ".join([kind, " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())]).rstrip()


def invalid_values(error: ValidationError, given: Mapping[str, Given]) -> list[str]:
    """One line for each finding of pydantic."""
    lines = []
    for finding in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in finding["loc"][:2])
        if finding["loc"][:1] == ("systems",) and "systems" in given:
            lines.append(_in_a_system(finding, given["systems"]))
            continue
        own_words = finding["type"] == "value_error"
        message = finding["msg"].removeprefix("Value error, ")
        if key in FIELDS and key in given:
            where, value = given[key].origin, "(hidden)" if key in SECRETS else shown(given[key].value)
            must = message if own_words else f"must be {allowed(FIELDS[key])}"
            lines.append(f"{where}: {key} = {value}: {must}")
        else:
            # what concerns several sections stands in none
            lines.append(f"{key}: {message}{_concerned(key, message, given)}" if key else message)
    return lines


def _in_a_system(finding: ErrorDetails, systems: Given) -> str:
    """One line for a finding in a `[[systems]]` table, which is named by its number."""
    _, number, *path = finding["loc"]
    name = ".".join(map(str, path))
    fields = SystemRules.model_fields if name.startswith("rules.") else SystemSettings.model_fields
    last = name.rpartition(".")[2]
    place = f"{systems.origin}: [[systems]] number {int(number) + 1}: {name}"
    match finding["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key{nearest(last, fields)}"
        case "missing":
            return f"{place} is missing: every system needs it"
        case "value_error":
            must = finding["msg"].removeprefix("Value error, ")
        case _:
            must = f"must be {allowed(_INHERITED.get(last) or fields[last])}"
    return f"{place} = {shown(finding['input'])}: {must}"


def ways_to_give_secret(key: str) -> str:
    """How a secret setting is given."""
    variable = next(name for name, target in ENVIRONMENT.items() if target == key)
    credential = next(name for name, target in CREDENTIALS.items() if target == key)
    return f"give it as the environment variable {variable} or the systemd credential {credential}"


def _concerned(section: str, message: str, given: Mapping[str, Given]) -> str:
    """What was given of a section whose values do not fit together, and how its missing secrets are given."""
    stands = [f"{key} ({value.origin})" for key, value in given.items() if key.startswith(f"{section}.")]
    missing = [
        key
        for key in sorted(SECRETS - given.keys())
        if key.startswith(f"{section}.") and key.rpartition(".")[2] in message
    ]
    hints = [f"; given are {', '.join(stands)}"] if stands else []
    return "".join(hints + [f"; {key}: {ways_to_give_secret(key)}" for key in missing])
