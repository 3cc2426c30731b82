"""What the fetcher remembers across restarts."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict

from bikeflow.core.model import FetchState
from bikeflow.ledger.database import Database
from bikeflow.runtime.log import get_logger

log = get_logger()


class FeedMemory:
    """The table `fetch_state`: the last snapshot that was taken over from the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fetch_state(self) -> FetchState | None:
        """The last snapshot, or None where nothing was fetched yet."""
        rows = self._database.rows("SELECT state FROM fetch_state")
        if not rows:
            return None
        try:
            values = json.loads(rows[0]["state"])
            return FetchState(**{**values, "fetched_at": dt.datetime.fromisoformat(values["fetched_at"])})
        except (ValueError, TypeError, KeyError) as error:  # damaged; the archive knows the last snapshot as well
            log.warning("fetch_state_damaged", error=str(error))
            return None

    def save_fetch_state(self, state: FetchState) -> None:
        """Replace what is remembered."""
        text = json.dumps({**asdict(state), "fetched_at": state.fetched_at.isoformat()})
        with self._database.transaction() as transaction:
            transaction.execute("INSERT OR REPLACE INTO fetch_state VALUES (1, ?)", (text,))
