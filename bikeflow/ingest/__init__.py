"""The fetcher role: from the feed's server to the lake, by way of the local spool."""

from __future__ import annotations

from bikeflow.core.model import FetchOutcome, Outcome
from bikeflow.ingest.delivery import Delivery
from bikeflow.ingest.fetcher import Fetcher, open_fetcher
from bikeflow.ingest.outcome import FetcherStatus, FetchMemory

__all__ = ["Delivery", "FetchMemory", "FetchOutcome", "Fetcher", "FetcherStatus", "Outcome", "open_fetcher"]
