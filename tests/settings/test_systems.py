"""`[[systems]]`: what a system takes from other sections, what is refused and how, and how it is all shown."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.core.errors import ConfigError
from bikeflow.feeds import check_formats, format_of, layout_of
from bikeflow.settings import Settings, load_settings
from bikeflow.settings.changes import changes, concerns_pipeline
from bikeflow.settings.sections import SystemSettings
from bikeflow.settings.systems import System
from tests.support.wrm import wrm

HEAD = '[[systems]]\nid = "nyc"\nurl = "http://h/nyc"\n'


def written(text: str) -> Path:
    path = Path("config.toml")
    path.write_text(text, encoding="utf-8")
    return path


def systems(text: str) -> tuple[System, ...]:
    return load_settings(written(text), environ={}).settings.all_systems


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_formats(load_settings(written(text), overrides, environ={}).settings.all_systems)
    return str(caught.value).split("\n")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestDefaults:
    def test_without_any_there_is_the_one_system_that_feed_rules_and_prefix_describe(self) -> None:
        text = '[feed]\nurl = "http://h/x"\ninterval_seconds = 30\n[rules]\nlat_min = 50\n[storage]\nprefix = "a/b"\n'
        (system,) = systems(text)
        assert (system.id, system.format, system.prefix, system.timezone) == ("wrm", "wrm", "a/b/", "Europe/Warsaw")
        assert (system.feed.url, system.feed.interval_seconds, system.rules.lat_min) == ("http://h/x", 30, 50)
        assert systems("") == (wrm(),)

    def test_what_a_system_does_not_set_is_that_of_feed_and_rules(self) -> None:
        text = "[feed]\ninterval_seconds = 30\nmax_bytes = 5000\nbreaker_failures = 9\n[rules]\nstale_seconds = 7\n"
        (system,) = systems(text + HEAD + "[systems.rules]\nlat_min = 40\n")
        assert (system.id, system.name, system.prefix) == ("nyc", "nyc", "bike-data/nyc/")
        assert system.feed.url == "http://h/nyc"
        assert (system.feed.interval_seconds, system.feed.max_bytes, system.feed.breaker_failures) == (30, 5000, 9)
        assert (system.rules.lat_min, system.rules.lat_max, system.rules.stale_seconds) == (40, 51.25, 7)

    def test_what_it_sets_is_its_own(self) -> None:
        own = (
            'name = "Citi Bike"\nprefix = "/nyc/lake"\ntimezone = "America/New_York"\ninterval_seconds = 45\n'
            "timeout_seconds = 4\nmax_bytes = 4000\nspool_max_bytes = 3_000_000\n"
        )
        other = '[[systems]]\nid = "other"\nurl = "http://h/other"\nprefix = ""\n'
        first, second = systems(HEAD + own + other)
        assert (first.name, first.prefix, first.timezone) == ("Citi Bike", "nyc/lake/", "America/New_York")
        feed = first.feed
        assert (feed.interval_seconds, feed.timeout_seconds, feed.max_bytes, feed.spool_max_bytes) == (
            45, 4, 4000, 3_000_000
        )  # fmt: skip
        assert (second.prefix, second.feed.interval_seconds) == ("", 60)
        assert layout_of(second).raw == "raw/"

    def test_a_setting_of_the_one_system_that_has_no_effect_any_more_is_noted(self) -> None:
        loaded = load_settings(written('[feed]\nurl = "http://h/x"\n' + HEAD), ["storage.prefix=a"], environ={})
        assert loaded.notes == (
            "config.toml:2: feed.url is not used, since there are [[systems]]",
            "--set storage.prefix: storage.prefix is not used, since there are [[systems]]",
        )


NAME = 'a short name of a-z, 0-9, "_" and "-" that begins with a letter or digit'


class TestProblems:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ('url = "http://h/"', "id is missing: every system needs it"),
            ('id = "a"', "url is missing: every system needs it"),
            ('id = "Nyc"\nurl = "http://h/"', f'id = "Nyc": must be {NAME}'),
            ('id = ""\nurl = "http://h/"', f'id = "": must be {NAME}'),
            ('id = "-a"\nurl = "http://h/"', f'id = "-a": must be {NAME}'),
            ('id = "../a"\nurl = "http://h/"', f'id = "../a": must be {NAME}'),
            ('id = 5\nurl = "http://h/"', f"id = 5: must be {NAME}"),
            ('id = "a"\nurl = "h"', 'url = "h": must be a URL that begins with http:// or https://'),
            (
                'id = "a"\nurl = "http://me:pw@h/"',
                'url = "http://(hidden)@h/": must not hold a user name or password: URLs are logged and shown',
            ),
            (
                'id = "a"\nurl = "http://h/"\nintervall_seconds = 3',
                'intervall_seconds: unknown key; did you mean "interval_seconds"?',
            ),
            ('id = "a"\nurl = "http://h/"\ncolour = 3', "colour: unknown key"),
            (
                'id = "a"\nurl = "http://h/"\ninterval_seconds = 0',
                "interval_seconds = 0: must be a number at least 1 and at most 86400",
            ),
            (
                'id = "a"\nurl = "http://h/"\ntimeout_seconds = "x"',
                'timeout_seconds = "x": must be a number above 0 and at most 600',
            ),
            ('id = "a"\nurl = "http://h/"\nmax_bytes = 1.5', "max_bytes = 1.5: must be a whole number at least 1000"),
            ('id = "a"\nurl = "http://h/"\nprefix = 5', "prefix = 5: must be text"),
            (
                'id = "a"\nurl = "http://h/"\ntimezone = "Mars"',
                'timezone = "Mars": must be a time zone such as "Europe/Warsaw" or "UTC"',
            ),
            (
                'id = "a"\nurl = "http://h/"\nrules = 5',
                "rules = 5: must be a table: write [systems.rules], its keys below it",
            ),
            (
                'id = "a"\nurl = "http://h/"\n[systems.rules]\nlat_mim = 5',
                'rules.lat_mim: unknown key; did you mean "lat_min"?',
            ),
            (
                'id = "a"\nurl = "http://h/"\n[systems.rules]\nlat_min = 95',
                "rules.lat_min = 95: must be a number at least -90 and at most 90",
            ),
        ],
    )
    def test_a_mistake_in_a_table_is_one_line_that_says_where_and_what_is_allowed(
        self, body: str, problem: str
    ) -> None:
        assert problems(f"{HEAD}[[systems]]\n{body}\n") == [f"config.toml: [[systems]] number 2: {problem}"]

    def test_every_mistake_is_told(self) -> None:
        text = '[[systems]]\nid = "A"\n[[systems]]\nid = "b"\nurl = "x"\nfoo = 1\n[feed]\nmax_bytes = 1\n'
        assert [line.split(":")[1].strip() for line in problems(text)] == ["[[systems]] number 1"] * 2 + [
            "[[systems]] number 2"
        ] * 2 + ["8"]

    @pytest.mark.parametrize(
        ("second", "problem"),
        [
            ('id = "nyc"', 'two systems have the id "nyc"'),
            ('id = "a"\nprefix = "bike-data/nyc"', '"nyc" and "a" have the same prefix "bike-data/nyc/"'),
            (
                'id = "a"\nprefix = "bike-data/nyc/raw/x"',
                'the prefix "bike-data/nyc/raw/x/" of "a" and "bike-data/nyc/" of "nyc" overlap',
            ),
            (
                'id = "a"\nprefix = "bike-data/nyc/duckdb"',
                'the prefix "bike-data/nyc/duckdb/" of "a" and "bike-data/nyc/" of "nyc" overlap',
            ),
        ],
    )
    def test_systems_that_collide_are_refused(self, second: str, problem: str) -> None:
        assert problems(f'{HEAD}[[systems]]\n{second}\nurl = "http://h/"\n') == [f"systems: {problem}"]

    def test_a_prefix_of_its_own_below_or_above_that_of_another_is_fine(self) -> None:
        above = '[[systems]]\nid = "a"\nurl = "http://h/"\nprefix = "bike-data"\n'
        below = '[[systems]]\nid = "b"\nurl = "http://h/"\nprefix = "bike-data/nyc/rawlins"\n'
        assert len(systems(HEAD + above + below)) == 3

    def test_rules_that_do_not_fit_those_of_the_section_name_their_system(self) -> None:
        assert problems(HEAD + "[systems.rules]\nlat_min = 60\n") == [
            'systems: "nyc" with [rules]: the service area is empty: lat_min must be below lat_max, '
            "lon_min below lon_max"
        ]

    def test_a_format_that_does_not_exist(self) -> None:
        assert problems(HEAD + 'format = "gbsf"\n') == ['system "nyc": format = "gbsf": must be one of "wrm", "gbfs"']
        (system,) = systems(HEAD + 'format = "gbsf"\n')
        for ask in (format_of, layout_of):
            with pytest.raises(ConfigError, match="must be one of"):
                ask(system)

    @pytest.mark.parametrize("text", ["systems = 5\n", 'systems = ["nyc"]\n', "[systems]\nid = 'nyc'\n"])
    def test_what_is_no_list_of_tables(self, text: str) -> None:
        assert problems(text) == [
            "config.toml: systems is a list of tables: write [[systems]] on a line of its own for each"
        ]

    def test_only_a_file_can_hold_them(self) -> None:
        assert problems("", "systems=x") == ["--set systems: only a configuration file can hold [[systems]]"]

    def test_the_system_of_the_older_names_must_exist(self) -> None:
        assert problems(HEAD, "warehouse.wrm_system=wrm") == ['warehouse.wrm_system = "wrm": there is no such system']
        assert load_settings(written(HEAD), ["warehouse.wrm_system=nyc"], environ={}).settings.warehouse.wrm_system


class TestShown:
    TEXT = HEAD + '[[systems]]\nid = "wrm"\nurl = "http://h/wrm?key=hunter2"\ninterval_seconds = 30\n'

    def test_check_config_lists_each_system_completely_as_a_configuration_file_that_means_the_same(self) -> None:
        shown = CliRunner().invoke(app, ["check-config", "--config", str(written(self.TEXT))])
        text = "\n".join(line for line in shown.stdout.splitlines() if "(not set)" not in line)
        table = tomllib.loads(text)["systems"][1]
        assert (table["name"], table["interval_seconds"], table["prefix"]) == ("wrm", 30, "bike-data/wrm/")
        assert "[[systems]]  # config.toml" in text and "interval_seconds = 30\n" in text
        assert systems(text) == systems(self.TEXT)

    def test_check_config_gives_them_as_json(self) -> None:
        shown = CliRunner().invoke(app, ["check-config", "--json", "--config", str(written(self.TEXT))])
        found = json.loads(shown.stdout)["settings"]["systems"]
        assert (found["origin"], [table["id"] for table in found["value"]]) == ("config.toml", ["nyc", "wrm"])

    def test_check_config_refuses_a_format_that_does_not_exist(self) -> None:
        shown = CliRunner().invoke(app, ["check-config", "--config", str(written(HEAD + 'format = "x"\n'))])
        assert isinstance(shown.exception, ConfigError)

    def test_a_change_names_the_systems_and_shows_no_key_of_a_url(self) -> None:
        old, new = (load_settings(written(text), environ={}).settings for text in (HEAD, self.TEXT))
        assert changes(old, new) == {"systems": "nyc -> nyc, wrm"} and concerns_pipeline(changes(old, new))
        other = load_settings(written(self.TEXT.replace("hunter2", "hunter3")), environ={}).settings
        assert changes(new, other) == {"systems": "changed"}
        assert changes(Settings(), old)["systems"] == "none -> nyc"

    def test_of_a_change_of_many_systems_only_what_differs_is_told(self) -> None:
        def many(*ids: str, name: str = "") -> Settings:
            tables = [SystemSettings(id=f"s{number}", url="http://h/") for number in range(30)]
            return Settings(systems=(*tables, *(SystemSettings(id=one, name=name, url="http://h/") for one in ids)))

        assert changes(many("a"), many("b", "c")) == {"systems": "32 systems: added b, c, removed a"}
        ids = ("a", "b", "c", "d", "e")
        assert changes(many(*ids), many(*ids, name="x")) == {"systems": "35 systems: changed a, b, c and 2 more"}
