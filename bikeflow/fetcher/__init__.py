"""The fetcher role: from the feed's server to the lake, by way of the local spool."""

from __future__ import annotations

from bikeflow.fetcher.delivery import Delivery
from bikeflow.fetcher.outcome import FetcherStatus, FetchMemory
from bikeflow.fetcher.role import Fetcher, open_fetcher
from bikeflow.model import FetchOutcome, Outcome

__all__ = ["Delivery", "FetchMemory", "FetchOutcome", "Fetcher", "FetcherStatus", "Outcome", "open_fetcher"]
