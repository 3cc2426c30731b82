"""`config.toml` documents every setting, truthfully."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bikeflow.settings import Settings, load_settings
from bikeflow.settings.model import CREDENTIALS, ENVIRONMENT, FIELDS, SECRETS

CONFIG = Path(__file__).parents[2] / "config.toml"
TEXT = CONFIG.read_text(encoding="utf-8")


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


NO_FIXED_DEFAULT = {key for key in FIELDS if default(key) is None}


def test_it_holds_every_setting_but_the_secrets_and_no_other() -> None:
    assert sorted(uncommented()) == sorted(FIELDS.keys() - SECRETS)


@pytest.mark.parametrize("key", sorted(FIELDS.keys() - SECRETS - NO_FIXED_DEFAULT))
def test_it_shows_the_default(key: str) -> None:
    assert uncommented()[key] == default(key)


@pytest.mark.parametrize("key", sorted(NO_FIXED_DEFAULT))
def test_where_the_default_is_no_fixed_value_it_shows_an_example_and_says_so(key: str) -> None:
    before = TEXT.partition(f"\n#{key.rpartition('.')[2]} = ")[0]
    comment = " ".join(re.split(r"\n(?!# )", before)[-1].replace("\n# ", " ").split())
    assert re.search(r"The default is .*; this is an example\.$", comment)


def test_every_setting_has_a_comment_before_it() -> None:
    lines = TEXT.splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"#?\w+ = ", line)]
    bare = [lines[number] for number in settings if not re.match(r"#( |\w+ = )", lines[number - 1])]
    assert len(settings) > 30 and bare == []


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_it_says_how_secrets_are_given(secret: str) -> None:
    named = [*(name for name, key in ENVIRONMENT.items() if key == secret)]
    named += [name for name, key in CREDENTIALS.items() if key == secret]
    assert len(named) == 2 and all(name in TEXT for name in named)


def test_it_changes_nothing_as_it_stands() -> None:
    loaded = load_settings(CONFIG, environ={})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
