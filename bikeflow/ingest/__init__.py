"""The fetcher role: from the feed's server to the lake, by way of the local spool."""

from __future__ import annotations

from bikeflow.ingest.delivery import Delivery
from bikeflow.ingest.fetcher import Fetcher

__all__ = ["Delivery", "Fetcher"]
