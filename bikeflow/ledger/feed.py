"""What a system's fetcher remembers across restarts."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict

from bikeflow.core.model import FetchState
from bikeflow.ledger.database import Database
from bikeflow.runtime.log import get_logger

log = get_logger()


class FeedMemory:
    """The last snapshot that was taken over from one system's feed."""

    def __init__(self, database: Database, system_id: str) -> None:
        self._database = database
        self._system_id = system_id

    def fetch_state(self) -> FetchState | None:
        """The last snapshot, or None where nothing was fetched yet."""
        row = self._database.row("fetch_state", system_id=self._system_id)
        if row is None:
            return None
        try:
            values = json.loads(row["state"])
            validators = {url: tuple(pair) for url, pair in values["validators"].items()}
            fetched_at = dt.datetime.fromisoformat(values["fetched_at"])
            return FetchState(values["sha256"], values["key"], fetched_at, validators)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # damaged; the archive knows the last snapshot as well
            log.warning("fetch_state_damaged", error=str(error))
            return None

    def save_fetch_state(self, state: FetchState) -> None:
        """Replace what is remembered."""
        text = json.dumps({**asdict(state), "fetched_at": state.fetched_at.isoformat()})
        with self._database.transaction() as transaction:
            transaction.run("save_fetch_state", system_id=self._system_id, state=text)
