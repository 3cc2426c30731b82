"""The analytics database: a mirror of the enhanced layer, partial results per segment, and atomic publishing."""

from __future__ import annotations

from bikeflow.warehouse.facts import PipelineFacts
from bikeflow.warehouse.mirror import Mirror, MirrorChange
from bikeflow.warehouse.remote import RemoteDatabase
from bikeflow.warehouse.warehouse import Refresh, Warehouse, published_path

__all__ = [
    "Mirror",
    "MirrorChange",
    "PipelineFacts",
    "Refresh",
    "RemoteDatabase",
    "Warehouse",
    "published_path",
]
