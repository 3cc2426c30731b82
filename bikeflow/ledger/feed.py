"""What a system's fetcher remembers across restarts."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from bikeflow.core.model import FetchState
from bikeflow.ledger.database import Database
from bikeflow.runtime.log import get_logger

_STATE = TypeAdapter(FetchState)
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
            return _STATE.validate_json(row["state"])
        except ValidationError as error:
            # damaged; the archive knows the last snapshot as well
            log.warning("fetch_state_damaged", error=str(error))
            return None

    def save_fetch_state(self, state: FetchState) -> None:
        """Replace what is remembered."""
        with self._database.transaction() as transaction:
            text = _STATE.dump_json(state).decode()
            transaction.run("save_fetch_state", system_id=self._system_id, state=text)
