"""The configuration: what can be set (`sections`, `model`), from where it is read, and what to say when it is wrong."""

from __future__ import annotations

from bikeflow.settings.loading import LoadedSettings, load_settings, store_secrets
from bikeflow.settings.model import Settings, public_values

__all__ = ["LoadedSettings", "Settings", "load_settings", "public_values", "store_secrets"]
