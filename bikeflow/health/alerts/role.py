"""The role that watches the others and tells people; nothing waits for it, and no channel can hold it up for long."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bikeflow.core.events import Events
from bikeflow.core.model import UTC, AlertSent
from bikeflow.health.alerts.channel import send
from bikeflow.health.alerts.conditions import Conditions
from bikeflow.health.alerts.incidents import Incidents
from bikeflow.health.alerts.messages import Alert, Message
from bikeflow.health.health import Health
from bikeflow.health.readiness import Verdict
from bikeflow.runtime.files import write_whole
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.retry import tick

FILE_NAME = "alerts.json"
LOOK_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 900.0
"""Between attempts to send, while no channel takes a message."""
START = dt.timedelta(minutes=2)
log = get_logger()


class Alerts:
    """Looks at how things are, and sends what is due; the open incidents are kept in `data_dir`/alerts.json."""

    def __init__(self, health: Health, tell: Callable[[AlertSent], None]) -> None:
        self._health = health
        self._tell = tell
        self._kept = ""
        self._incidents = self._load()
        self.conditions = Conditions()
        self._stop = asyncio.Event()
        self.work = asyncio.create_task(self._run(), name="alerts")

    async def close(self) -> None:
        """Send nothing more, not even what is being sent; raises what has ended the role before."""
        self._stop.set()
        if not self.work.done():
            self.work.cancel()
        await asyncio.wait([self.work])
        if not self.work.cancelled():
            self.work.result()

    async def _run(self) -> None:
        refused = 0
        while not await tick(self._stop, min(LOOK_SECONDS * 2**refused, LONGEST_WAIT_SECONDS)):
            refused = 0 if await self._look() else refused + 1

    async def _look(self) -> bool:
        """Look once, and send all that is due; False where nobody took a message."""
        settings, now = self._health.settings, dt.datetime.now(UTC)
        if not settings.alerts.targets:
            return True
        try:
            disk = await asyncio.to_thread(shutil.disk_usage, settings.data_dir)
        except OSError as error:
            log.debug("disk_unknown", error=error.strerror)
            return True
        faults = self.conditions.faults(settings, self._verdict(now), self._health.vitals(), disk.free, now)
        self._incidents.observe(faults, settings.alerts, now)
        arrived = True
        while arrived and (due := self._incidents.due(settings.alerts, now)):
            arrived = await self._send(*due)
        await asyncio.to_thread(self._keep)
        return arrived

    def _verdict(self, now: dt.datetime) -> Verdict:
        """What does not work; a start takes a while, and what has not worked yet is no incident before it is over."""
        started_at, verdict = self._health.seen.started_at, self._health.verdict()
        if now - started_at > START:
            return verdict
        return {part: None if fault and fault.since == started_at else fault for part, fault in verdict.items()}

    async def _send(self, alert: Alert, message: Message) -> bool:
        answers = await send(message, self._health.settings.alerts)
        refusals = {target: reason for target, reason in answers.items() if reason}
        for target, reason in refusals.items():
            log.warning("alert_refused", alert=alert, kind=message.kind, target=target, error=reason)
        arrived = len(refusals) < len(answers)
        if arrived:
            log.info("alert_sent", alert=alert, kind=message.kind, targets=len(answers) - len(refusals))
            self._incidents.told(alert, message, dt.datetime.now(UTC))
            self._keep()  # before anything can end us: nobody is to be told twice
        self._tell(AlertSent(arrived))
        return arrived

    def _load(self) -> Incidents:
        try:
            return Incidents.load(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Incidents()
        except (OSError, ValueError) as error:
            log.warning("alerts_state_damaged", file=str(self._file), error=str(error))
            return Incidents()

    def _keep(self) -> None:
        text = self._incidents.dump()
        if text == self._kept and self._file.exists():
            return
        try:
            write_whole(self._file, f"{text}\n".encode())
        except OSError as error:  # a full disk is one of the things to tell of
            log.debug("alerts_state_lost", error=error.strerror)
        else:
            self._kept = text

    @property
    def _file(self) -> Path:
        return self._health.settings.data_dir / FILE_NAME


@asynccontextmanager
async def open_alerts(health: Health, events: Events) -> AsyncIterator[Alerts]:
    """The role at work, as long as the context lasts."""
    alerts = Alerts(health, events.emit)
    with events.heard_by(alerts.conditions.observe):
        try:
            yield alerts
        finally:
            await alerts.close()
