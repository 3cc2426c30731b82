"""Settings come from the right source, say where they come from, and mistakes are told in one clear line each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from bikeflow.core.errors import ConfigError
from bikeflow.settings import LoadedSettings, Settings, load_settings
from bikeflow.settings.model import Given
from bikeflow.settings.problems import invalid_values
from bikeflow.settings.sections import StorageSettings

SECRET = "s3cr3t-value"
LEGACY_S3 = {"BUCKET_NAME": "bikes", "S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "config.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def problems(
    config: Path | None = None, overrides: tuple[str, ...] = (), environ: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(config, overrides, environ or {})
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # it could show a secret
    return str(caught.value).split("\n")


def secrets(loaded: LoadedSettings) -> tuple[str, str]:
    storage = loaded.settings.storage
    return storage.access_key_id.get_secret_value(), storage.secret_access_key.get_secret_value()


class TestPrecedence:
    def test_no_configuration_at_all_is_fine(self) -> None:
        loaded = load_settings(environ={})
        assert loaded.settings == Settings()
        assert set(loaded.origins.values()) == {"default"}
        assert (loaded.path, loaded.notes) == (None, ())

    def test_each_source_beats_the_one_before_it_and_is_named_as_the_origin(self) -> None:
        config = written('data_dir = "f"\n[feed]\ninterval_seconds = 1\n[storage]\nregion = "f"\nbucket = "f"\n')
        environ = {
            "STATE_DIRECTORY": "/state",
            "S3_REGION_NAME": "legacy",
            "BUCKET_NAME": "legacy",
            "BIKEFLOW_STORAGE__BUCKET": "env",
            "BIKEFLOW_STORAGE__BACKEND": "local",
            "BIKEFLOW_LOG__LEVEL": "debug",
        }
        loaded = load_settings(config, ["log.level=error"], environ)
        settings, origins = loaded.settings, loaded.origins
        assert (str(settings.data_dir), origins["data_dir"]) == ("f", "config.toml:1")
        assert (settings.feed.interval_seconds, origins["feed.interval_seconds"]) == (1, "config.toml:3")
        assert (settings.storage.region, origins["storage.region"]) == ("legacy", "env S3_REGION_NAME")
        assert (settings.storage.bucket, origins["storage.bucket"]) == ("env", "env BIKEFLOW_STORAGE__BUCKET")
        assert (settings.log.level, origins["log.level"]) == ("error", "--set log.level")
        assert (settings.retry.attempts, origins["retry.attempts"]) == (5, "default")

    def test_the_real_environment_counts_where_none_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BIKEFLOW_WATCHER__POLL_SECONDS", "7")
        assert load_settings().settings.watcher.poll_seconds == 7

    def test_constructing_settings_reads_no_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATA_DIR", "/elsewhere")
        monkeypatch.setenv("BIKEFLOW_DATA_DIR", "/elsewhere")
        assert Settings().data_dir == Path("data")

    @pytest.mark.parametrize(("value", "expected"), [("/var/lib/a:/var/lib/b", "/var/lib/a"), ("", "data")])
    def test_data_dir_follows_the_service_managers_state_directory(self, value: str, expected: str) -> None:
        assert load_settings(environ={"STATE_DIRECTORY": value}).settings.data_dir == Path(expected)

    def test_a_tilde_is_the_home_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/ania")
        assert load_settings(overrides=["data_dir=~/bikes"], environ={}).settings.data_dir == Path("/home/ania/bikes")


class TestFile:
    def test_the_file_asked_for_beats_the_variable_which_beats_the_working_directory(self) -> None:
        written("[feed]\ninterval_seconds = 3\n")
        written("[feed]\ninterval_seconds = 4\n", "env.toml")
        asked = written("[feed]\ninterval_seconds = 5\n", "asked.toml")
        environ = {"BIKEFLOW_CONFIG": "env.toml"}
        assert load_settings(asked, environ=environ).settings.feed.interval_seconds == 5
        assert load_settings(environ=environ).settings.feed.interval_seconds == 4
        assert load_settings(environ={}).settings.feed.interval_seconds == 3

    def test_a_file_asked_for_must_exist(self) -> None:
        assert problems(Path("no.toml")) == ["no.toml: no such file (named by --config)"]
        assert problems(environ={"BIKEFLOW_CONFIG": "x.toml"}) == ["x.toml: no such file (named by BIKEFLOW_CONFIG)"]

    def test_a_syntax_error_names_file_line_and_column(self) -> None:
        (line,) = problems(written("[feed]\nurl = = 3\n"))
        assert line == "config.toml:2:7: not valid TOML: Invalid value"

    def test_text_that_is_not_utf_8_is_told(self) -> None:
        Path("config.toml").write_bytes(b"# caf\xe9\n")
        assert problems() == ["config.toml: not UTF-8 text (byte 5)"]

    def test_a_file_that_can_not_be_read_is_told(self) -> None:
        assert problems(Path("/proc/self/mem")) == ["/proc/self/mem: can't be read: Input/output error"]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("[feed]\nulr = 1\n", 'config.toml:2: unknown key "feed.ulr"; did you mean "feed.url"?'),
            ("poll_seconds = 1\n", 'config.toml:1: unknown key "poll_seconds"; did you mean "watcher.poll_seconds"?'),
            ("[feed]\nxyzzy = 1\n", 'config.toml:2: unknown key "feed.xyzzy"'),
            ("[sotrage]\na = 1\nb = 2\n", 'config.toml: unknown section "sotrage"; did you mean "storage"?'),
            ("feed = 1\n", "config.toml: feed is a section: write [feed] on a line of its own, its keys below it"),
            ('[feed]\n"a\\nb" = 1\n', 'config.toml: unknown key "feed.a\\nb"'),
        ],
    )
    def test_an_unknown_key_is_named_with_the_nearest_valid_one(self, text: str, line: str) -> None:
        assert problems(written(text)) == [line]

    def test_a_secret_in_the_file_is_refused_unseen(self) -> None:
        (line,) = problems(written(f'[storage]\nsecret_access_key = "{SECRET}"\n'))
        assert line.startswith("config.toml:2: storage.secret_access_key is a secret and must not stand in a file;")
        assert "BIKEFLOW_STORAGE__SECRET_ACCESS_KEY" in line and "s3_secret_access_key" in line
        assert SECRET not in line


class TestWrongValues:
    @pytest.mark.parametrize(
        ("override", "must"),
        [
            ("processing.workers=0", 'processing.workers = "0": must be a whole number at least 1 and at most 64'),
            ("processing.workers=1.5", 'processing.workers = "1.5": must be a whole number at least 1 and at most 64'),
            ("feed.timeout_seconds=soon", 'feed.timeout_seconds = "soon": must be a number above 0 and at most 600'),
            ("retry.max_seconds=inf", 'retry.max_seconds = "inf": must be a number above 0'),
            ("log.level=loud", 'log.level = "loud": must be one of "debug", "info", "warning", "error"'),
            ("feed.url=ftp://x", 'feed.url = "ftp://x": must be a URL that begins with http:// or https://'),
            ("warehouse.memory_limit=lots", 'must be an amount of memory, such as "512MB" or "2GiB"'),
            ("processing.segment_minutes=7", "must divide a day into equal parts"),
            ("data_dir=", 'data_dir = "": must not be empty'),
            ("warehouse.path=", 'warehouse.path = "": must not be empty'),
        ],
    )
    def test_a_value_out_of_range_is_told_with_what_is_allowed(self, override: str, must: str) -> None:
        (line,) = problems(overrides=(override,))
        assert line.startswith(f"--set {override.partition('=')[0]}: ")
        assert must in line

    def test_the_file_and_line_of_a_wrong_value_are_named(self) -> None:
        (line,) = problems(written("[feed]\n# how often\n\ninterval_seconds = 0.5\n"))
        assert line == "config.toml:4: feed.interval_seconds = 0.5: must be a number at least 1 and at most 86400"

    @pytest.mark.parametrize("key", ["workers", "queue_size", "segment_minutes"])
    def test_true_is_no_number(self, key: str) -> None:
        (line,) = problems(written(f"[processing]\n{key} = true\n"))
        assert line == f"config.toml:2: processing.{key} = true: must be a number, not true or false"

    def test_every_problem_gets_its_line(self) -> None:
        config = written("[feed]\nurl = 3\nulr = 4\n")
        lines = problems(config, ("log.level=x", "nonsense"), {"BIKEFLOW_LOG__FORMAT": "x", "BIKEFLOW_FOO": "x"})
        assert len(lines) == 6

    @pytest.mark.parametrize("key", ["feed.url", "storage.endpoint_url"])
    def test_a_url_with_a_password_is_refused_and_not_repeated(self, key: str) -> None:
        (line,) = problems(overrides=(f"{key}=https://ania:{SECRET}@host/x",))
        assert "must not hold a user name or password" in line
        assert SECRET not in line

    def test_values_that_do_not_fit_together_are_told_with_where_they_stand(self) -> None:
        (line,) = problems(written("[rules]\nlat_min = 60\n"))
        assert line == (
            "rules: the service area is empty: lat_min must be below lat_max, lon_min below lon_max; "
            "given are rules.lat_min (config.toml:2)"
        )

    def test_an_unknown_variable_is_named_with_the_nearest_valid_one(self) -> None:
        assert problems(environ={"BIKEFLOW_FEED_URL": "x"}) == [
            'env BIKEFLOW_FEED_URL: unknown variable; did you mean "BIKEFLOW_FEED__URL"?'
        ]

    def test_an_override_needs_a_known_key_and_a_value(self) -> None:
        assert problems(overrides=("feed.url", "fead.url=x")) == [
            '--set "feed.url": must have the form "section.key=value"',
            '--set: unknown key "fead.url"; did you mean "feed.url"?',
        ]


class TestSecrets:
    def test_they_come_from_the_environment(self) -> None:
        environ = {"BIKEFLOW_STORAGE__ACCESS_KEY_ID": "id", "BIKEFLOW_STORAGE__SECRET_ACCESS_KEY": SECRET}
        assert secrets(load_settings(environ=environ)) == ("id", SECRET)

    def test_systemd_credentials_beat_the_older_names_and_lose_to_ours(self, tmp_path: Path) -> None:
        written("credential-id\n", "s3_access_key_id")
        written("credential-key\n", "s3_secret_access_key")
        written("none of our business", "other")
        environ = {**LEGACY_S3, "CREDENTIALS_DIRECTORY": str(tmp_path), "BIKEFLOW_STORAGE__ACCESS_KEY_ID": "ours"}
        loaded = load_settings(environ=environ)
        assert secrets(loaded) == ("ours", "credential-key")
        assert loaded.origins["storage.secret_access_key"] == "credential s3_secret_access_key"

    def test_an_empty_or_unreadable_credential_is_told(self, tmp_path: Path) -> None:
        written("\n", "s3_access_key_id")
        Path("s3_secret_access_key").write_bytes(b"\xff")
        assert problems(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [
            "credential s3_access_key_id: the file is empty",
            "credential s3_secret_access_key: can't be read: not UTF-8 text",
        ]

    def test_the_command_line_refuses_them_unseen(self) -> None:
        (line,) = problems(overrides=(f"storage.secret_access_key={SECRET}",))
        assert "a secret would be seen in the process list" in line
        assert SECRET not in line

    def test_they_are_never_printed(self) -> None:
        loaded = load_settings(environ=LEGACY_S3)
        assert secrets(loaded) == ("id", SECRET)
        assert SECRET not in f"{loaded!r} {loaded.settings} {loaded.settings.model_dump_json()}"

    def test_nor_by_the_line_that_tells_a_wrong_one(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Settings.model_validate({"storage": {"access_key_id": [SECRET]}})
        (line,) = invalid_values(caught.value, {"storage.access_key_id": Given([SECRET], "env X")})
        assert line == "env X: storage.access_key_id = (hidden): must be text"

    def test_not_even_by_the_error_of_a_section_that_does_not_fit(self) -> None:
        with pytest.raises(ValidationError) as caught:
            StorageSettings.model_validate({"backend": "s3", "secret_access_key": SECRET})
        assert SECRET not in str(caught.value)


class TestOlderNames:
    def test_a_complete_older_installation_selects_s3_and_says_why(self) -> None:
        loaded = load_settings(environ={**LEGACY_S3, "S3_ENDPOINT_URL": "https://s3.example", "S3_REGION_NAME": "r"})
        storage = loaded.settings.storage
        assert (storage.backend, storage.bucket, storage.region) == ("s3", "bikes", "r")
        assert storage.endpoint_url == "https://s3.example"
        assert loaded.origins["storage.backend"] == "env BUCKET_NAME (a bucket is named)"

    def test_a_backend_that_is_set_stays(self) -> None:
        loaded = load_settings(overrides=["storage.backend=local"], environ=LEGACY_S3)
        assert loaded.settings.storage.backend == "local"

    def test_an_empty_bucket_names_none(self) -> None:
        assert load_settings(written('[storage]\nbucket = ""\n'), environ={}).settings.storage.backend == "local"

    def test_a_bucket_without_keys_is_an_error_that_says_how_to_give_them(self) -> None:
        (line,) = problems(environ={"BUCKET_NAME": "bikes", "S3_ACCESS_KEY_ID": "id"})
        assert line.startswith('storage: backend = "s3" also needs secret_access_key; given are storage.bucket')
        assert "storage.backend (env BUCKET_NAME (a bucket is named))" in line
        assert line.endswith(
            "storage.secret_access_key: give it as the environment variable BIKEFLOW_STORAGE__SECRET_ACCESS_KEY or the "
            "systemd credential s3_secret_access_key"
        )

    def test_keys_without_a_bucket_leave_the_lake_local_and_are_noted(self) -> None:
        loaded = load_settings(environ={"MINIO_ACCESS_KEY": "id", "MINIO_SECRET_KEY": SECRET})
        assert loaded.settings.storage.backend == "local"
        (note,) = loaded.notes
        assert "env MINIO_ACCESS_KEY, env MINIO_SECRET_KEY: not used, since no bucket is named" in note

    @pytest.mark.parametrize("family", ["HETZNER", "MINIO"])
    @pytest.mark.parametrize(
        "endings",
        [("ENDPOINT", "ACCESS_KEY", "SECRET_KEY"), ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")],
    )
    def test_both_spellings_of_a_triple_are_known(self, family: str, endings: tuple[str, str, str]) -> None:
        values = ("https://store.example", "id", SECRET)
        environ = {f"{family}_{ending}": value for ending, value in zip(endings, values, strict=True)}
        loaded = load_settings(environ={**environ, "BUCKET_NAME": "bikes"})
        assert (loaded.settings.storage.endpoint_url, *secrets(loaded)) == values

    @pytest.mark.parametrize(
        ("name", "given", "url"),
        [
            ("HETZNER_ENDPOINT", "fsn1.your-objectstorage.com", "https://fsn1.your-objectstorage.com"),
            ("MINIO_ENDPOINT", "localhost:9000", "http://localhost:9000"),
            ("MINIO_ENDPOINT_URL", "https://minio.example", "https://minio.example"),
        ],
    )
    def test_an_endpoint_without_a_scheme_gets_the_one_it_always_had(self, name: str, given: str, url: str) -> None:
        assert load_settings(environ={name: given}).settings.storage.endpoint_url == url

    def test_families_are_never_mixed(self) -> None:
        hetzner = {"HETZNER_ENDPOINT": "h.example", "HETZNER_ACCESS_KEY": "h-id", "HETZNER_SECRET_KEY": "h-key"}
        minio = {"MINIO_ENDPOINT": "m.example", "MINIO_ACCESS_KEY": "m-id", "MINIO_SECRET_KEY": "m-key"}
        environ = {"BUCKET_NAME": "b", "S3_ENDPOINT_URL": "https://s3.example", **minio, **hetzner}
        loaded = load_settings(environ=environ)
        assert (loaded.settings.storage.endpoint_url, *secrets(loaded)) == ("https://h.example", "h-id", "h-key")
        assert loaded.notes == (
            "env S3_ENDPOINT_URL: not used, since HETZNER_... is set",
            "env MINIO_ENDPOINT, env MINIO_ACCESS_KEY, env MINIO_SECRET_KEY: not used, since HETZNER_... is set",
        )

    def test_an_empty_variable_counts_as_not_set(self) -> None:
        environ = {"BUCKET_NAME": "", "S3_ACCESS_KEY_ID": "", "WRM_STATIONS_S3_PREFIX": ""}
        loaded = load_settings(environ=environ)
        assert loaded.settings == Settings()
        assert loaded.notes == ()
