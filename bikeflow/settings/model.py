"""The whole configuration as one frozen value, and the flat names of its settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from pydantic import BaseModel, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bikeflow.settings import sections
from bikeflow.settings.systems import System, completed, conflicts, the_one_system

ENV_PREFIX = "BIKEFLOW_"
CONFIG_VARIABLE = "BIKEFLOW_CONFIG"


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody gave it, and where it stands: `config.toml:12`, `env BIKEFLOW_FEED__URL`, ..."""

    value: object
    origin: str


Layer = dict[str, Given]
"""What one source gives, by flat name: `data_dir`, `feed.url`, ..."""


class Settings(BaseSettings):
    """Everything that can be configured; `load_settings` fills it from files and the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: sections.UserPath = Path("data")
    systems: tuple[sections.SystemSettings, ...] = ()
    feed: sections.FeedSettings = sections.FeedSettings()
    storage: sections.StorageSettings = sections.StorageSettings()
    watcher: sections.WatcherSettings = sections.WatcherSettings()
    processing: sections.ProcessingSettings = sections.ProcessingSettings()
    retry: sections.RetrySettings = sections.RetrySettings()
    rules: sections.RulesSettings = sections.RulesSettings()
    warehouse: sections.WarehouseSettings = sections.WarehouseSettings()
    postgres: sections.PostgresSettings = sections.PostgresSettings()
    http: sections.HttpSettings = sections.HttpSettings()
    map: sections.MapSettings = sections.MapSettings()
    alerts: sections.AlertsSettings = sections.AlertsSettings()
    log: sections.LogSettings = sections.LogSettings()
    daemon: sections.DaemonSettings = sections.DaemonSettings()

    @model_validator(mode="after")
    def _a_bucket_is_there(self) -> Settings:
        if self.warehouse.mode != "local" and self.storage.backend != "s3":
            raise ValueError(
                f'warehouse.mode = "{self.warehouse.mode}" publishes in a bucket: it needs storage.backend = "s3"'
            )
        return self

    @model_validator(mode="after")
    def _systems_do_not_collide(self) -> Settings:
        found = list(conflicts(self.all_systems))
        if found:
            raise ValueError(f"systems: {'; '.join(found)}")
        wanted = self.warehouse.wrm_system
        if wanted and wanted not in {system.id for system in self.all_systems}:
            raise ValueError(f'warehouse.wrm_system = "{wanted}": there is no such system')
        return self

    @cached_property
    def all_systems(self) -> tuple[System, ...]:
        """The systems that are configured, complete: those of `[[systems]]`, else the one of `[feed]`."""
        if not self.systems:
            return (the_one_system(self.feed, self.storage, self.rules),)
        return tuple(completed(table, self.feed, self.rules) for table in self.systems)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each system among all, by its id."""
        return {system.id: place for place, system in enumerate(self.all_systems)}

    @cached_property
    def shown_system(self) -> System:
        """The system that the pages and `wrm_analytics` show: the one that is named for it, else the first."""
        systems = {system.id: system for system in self.all_systems}
        return systems.get(self.warehouse.wrm_system) or self.all_systems[0]

    @property
    def timezones(self) -> dict[str, str]:
        """The time zone of each system, by its id."""
        return {system.id: system.timezone for system in self.all_systems}

    @property
    def look_seconds(self) -> float:
        """From one look at the store for new files of a system to the next: at most half of all LISTs are for that."""
        return max(self.watcher.poll_seconds, 2 * 60 * len(self.all_systems) / self.watcher.lists_per_minute)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Constructing `Settings` reads nothing by itself: `load_settings` alone knows the sources and their order."""
        return (init_settings,)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS: Mapping[str, FieldInfo] = dict(_fields(Settings))
"""Every setting by its flat name."""

SECRETS: frozenset[str] = frozenset(key for key, field in FIELDS.items() if field.annotation is SecretStr)
"""Flat names of the settings that are never shown and never stand in a file."""


FILE_ONLY = frozenset({"systems"})
"""Flat names of what only a file can hold: tables."""

ENVIRONMENT: Mapping[str, str] = {
    ENV_PREFIX + key.upper().replace(".", "__"): key for key in FIELDS if key not in FILE_ONLY
}
"""Which environment variable sets which setting."""

CREDENTIALS: Mapping[str, str] = {
    "s3_access_key_id": "storage.access_key_id",
    "s3_secret_access_key": "storage.secret_access_key",
    "postgres_dsn": "postgres.dsn",
    "alert_urls": "alerts.urls",
}
"""Which file of `$CREDENTIALS_DIRECTORY` holds which secret."""


def public_values(settings: Settings) -> dict[str, object]:
    """Each setting's value by its flat name, fit for JSON and for anyone's eyes: secrets are (set) or (not set)."""
    values: dict[str, object] = {}
    for key in FIELDS:
        value = attrgetter(key)(settings)
        if isinstance(value, SecretStr):
            value = "(set)" if value.get_secret_value() else "(not set)"
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 30 seconds are 30, whether the default or given
        if isinstance(value, tuple):
            value = [table.model_dump(exclude_defaults=True) for table in value]
        values[key] = str(value) if isinstance(value, Path) else value
    return values
