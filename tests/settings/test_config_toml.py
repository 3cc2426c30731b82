"""`config.toml` documents every setting, truthfully."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bikeflow.settings import Settings, load_settings
from bikeflow.settings.model import CREDENTIALS, ENVIRONMENT, FIELDS, FILE_ONLY, SECRETS
from bikeflow.settings.sections import FeedSettings, RulesSettings, SystemRules, SystemSettings

CONFIG = Path(__file__).parents[2] / "config.toml"
WHOLE = CONFIG.read_text(encoding="utf-8")
EXAMPLE = WHOLE[WHOLE.index("#[[systems]]") : WHOLE.index("\n\n\n[warehouse]")]
"""The `[[systems]]` table; `TEXT` is all else."""
TEXT = WHOLE.replace(EXAMPLE, "")


def uncommented() -> dict[str, object]:
    """Every setting in the file, commented out or not, by its flat name."""
    flat: dict[str, object] = {}
    for name, value in tomllib.loads(re.sub(r"(?m)^#(?=\w+ = )", "", TEXT)).items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def default(key: str) -> object:
    value: object = Settings()
    for name in key.split("."):
        value = getattr(value, name)
    return str(value) if isinstance(value, Path) else value


def system() -> dict[str, object]:
    """The table of the example, commented out as it is."""
    (table,) = tomllib.loads(re.sub(r"(?m)^#(?=\w+ = |\[)", "", EXAMPLE))["systems"]
    return dict(table)


NO_FIXED_DEFAULT = {key for key in FIELDS if default(key) is None}


def test_it_holds_every_setting_but_the_secrets_and_no_other() -> None:
    assert sorted(uncommented()) == sorted(FIELDS.keys() - SECRETS - FILE_ONLY)


@pytest.mark.parametrize("key", sorted(FIELDS.keys() - SECRETS - FILE_ONLY - NO_FIXED_DEFAULT))
def test_it_shows_the_default(key: str) -> None:
    assert uncommented()[key] == default(key)


@pytest.mark.parametrize("key", sorted(NO_FIXED_DEFAULT))
def test_where_the_default_is_no_fixed_value_it_shows_an_example_and_says_so(key: str) -> None:
    before = TEXT.partition(f"\n#{key.rpartition('.')[2]} = ")[0]
    comment = " ".join(re.split(r"\n(?!# )", before)[-1].replace("\n# ", " ").split())
    assert re.search(r"The default is .*; this is an example\.$", comment)


def test_every_setting_has_a_comment_before_it() -> None:
    lines = WHOLE.splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"#?\w+ = ", line)]
    bare = [lines[number] for number in settings if not re.match(r"#( |\w+ = )", lines[number - 1])]
    assert len(settings) > 30 and bare == []


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_it_says_how_secrets_are_given(secret: str) -> None:
    named = [*(name for name, key in ENVIRONMENT.items() if key == secret)]
    named += [name for name, key in CREDENTIALS.items() if key == secret]
    assert len(named) == 2 and all(name in TEXT for name in named)


def test_the_example_of_a_system_names_every_key_and_is_a_system_that_works(tmp_path: Path) -> None:
    table = system()
    assert list(table) == list(SystemSettings.model_fields)
    assert list(SystemSettings.model_validate(table).rules.model_dump()) == list(SystemRules.model_fields)
    assert table["rules"] == RulesSettings().model_dump()
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"(?m)^#(?=\w+ = |\[)", "", EXAMPLE), encoding="utf-8")
    assert load_settings(file, environ={}).settings.all_systems == Settings().all_systems


def test_the_example_of_a_system_tells_its_defaults() -> None:
    table, given = system(), SystemSettings(id="wrm", url="http://h/")
    assert all(table[name] == value for name, value in FeedSettings().model_dump().items() if name in table)
    assert (table["format"], table["timezone"]) == (given.format, given.timezone)
    (plain,) = Settings(systems=(given,)).all_systems
    assert (plain.name, plain.prefix) == ("wrm", "bike-data/wrm/")
    assert 'The default is "bike-data/<id>/".' in EXAMPLE and "The default is the id." in EXAMPLE


def test_it_changes_nothing_as_it_stands() -> None:
    loaded = load_settings(CONFIG, environ={})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
