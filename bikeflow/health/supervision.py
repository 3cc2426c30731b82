"""Keeps the service manager informed: the sentence for `systemctl status`, and the watchdog, fed by progress only.

Progress means that the event loop turns, and that every role which has something to do brings something to an end now
and then, well or not: a fetch, a snapshot tried to deliver, a look at the store, a job or a raw file of one, a refresh
or a segment of one. A feed or store that is away is no reason to be restarted; a thread that hangs is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from bikeflow.core.model import Pulse
from bikeflow.health.sd_notify import Notifier
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.retry import tick
from bikeflow.settings import Settings
from bikeflow.settings.changes import some

REPORT_SECONDS = 5.0
STUCK_SECONDS = 600.0
"""For how long a role may do one and the same thing, beside all waits that are configured."""
CLOSING_SECONDS = 15.0
"""What closing everything may take after the deadline of the work in hand."""

log = get_logger()


def longest_step_seconds(settings: Settings) -> float:
    """How long one step of a role may take: every try of one request may run into all its timeouts and waits."""
    storage, retry = settings.storage, settings.retry
    one_try = storage.connect_timeout_seconds + storage.read_timeout_seconds + retry.max_seconds
    fetches = [2 * system.feed.interval_seconds + system.feed.timeout_seconds for system in settings.all_systems]
    between = max(*fetches, 2 * settings.look_seconds)
    return STUCK_SECONDS + retry.attempts * one_try + between


class Supervisor:
    """Reports to the service manager; `sentence` says how things stand, `clock` gives seconds."""

    def __init__(
        self, notifier: Notifier, sentence: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notifier = notifier
        self._sentence = sentence
        self._clock = clock
        self._pulses: Callable[[], Mapping[str, Pulse]] = dict
        self._longest = STUCK_SECONDS
        self._moved: dict[str, tuple[int, float]] = {}
        self._stuck: frozenset[str] = frozenset()

    def watch(self, pulses: Callable[[], Mapping[str, Pulse]], settings: Settings) -> None:
        """Judge the roles of this pipeline from now on; before, only the event loop was judged."""
        self._pulses, self._longest, self._moved = pulses, longest_step_seconds(settings), {}

    def stuck(self) -> dict[str, float]:
        """The roles that had something to do and ended nothing for too long, with their seconds; to be asked often."""
        now, stuck = self._clock(), {}
        for role, pulse in self._pulses().items():
            steps, since = self._moved.get(role, (pulse.steps, now))
            if pulse.idle or pulse.steps != steps:
                since = now
            self._moved[role] = (pulse.steps, since)
            if now - since > self._longest:
                stuck[role] = now - since
        return stuck

    def ready(self) -> None:
        """All roles run."""
        self._notifier.status(self._sentence())
        self._notifier.ready()

    def stopping(self, shutdown_seconds: float) -> None:
        """The roles are asked to end, and have this long: only the event loop is judged meanwhile."""
        self._pulses = dict
        self._notifier.stopping()
        # The deadline is configured here, and the unit's own may be shorter.
        self._notifier.extend_timeout(shutdown_seconds + CLOSING_SECONDS)

    def report(self) -> None:
        """Tell how things stand, and feed the watchdog where no role is stuck."""
        self._notifier.status(self._sentence())
        stuck = self.stuck()
        if new := sorted(stuck.keys() - self._stuck):
            seconds = round(max(stuck[role] for role in new))
            log.error("role_stuck", role=some(new), stuck_seconds=seconds, watchdog="not fed until it goes on")
        self._stuck = frozenset(stuck)
        if not stuck:
            self._notifier.watchdog()

    async def run(self, closing: asyncio.Event) -> None:
        """Report until `closing` is set, several times in each of the watchdog's periods."""
        period = min(REPORT_SECONDS, (self._notifier.watchdog_seconds or REPORT_SECONDS) / 3)
        while not closing.is_set():
            self.report()
            await tick(closing, period)


@asynccontextmanager
async def supervised(notifier: Notifier, sentence: Callable[[], str]) -> AsyncIterator[Supervisor]:
    """A supervisor that reports as long as the context lasts."""
    supervisor, closing = Supervisor(notifier, sentence), asyncio.Event()
    reporting = asyncio.create_task(supervisor.run(closing), name="supervisor")
    try:
        yield supervisor
    finally:
        closing.set()
        await reporting
