"""The feeds that bikeflow can fetch. A new one is one file here and one line in `FEEDS`."""

from __future__ import annotations

from collections.abc import Mapping

from bikeflow.feeds.base import Feed
from bikeflow.feeds.wrm.feed import WrmFeed

FEEDS: Mapping[str, Feed] = {"wrm": WrmFeed()}

__all__ = ["FEEDS", "Feed"]
