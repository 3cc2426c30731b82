"""When the watchdog is fed, and what the service manager is told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from bikeflow.core.model import Pulse
from bikeflow.health.sd_notify import Notifier
from bikeflow.health.supervision import Supervisor, longest_step_seconds, supervised
from bikeflow.settings import Settings

LONGEST = longest_step_seconds(Settings())


class Roles:
    """A pipeline of one role, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pulse = Pulse(0)

    def watched(self, notifier: Notifier) -> Supervisor:
        supervisor = Supervisor(notifier, lambda: "All works.", lambda: self.now)
        supervisor.watch(lambda: {"refresher": self.pulse}, Settings())
        return supervisor


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        yield server


def notifier(manager: socket.socket, watchdog_seconds: float | None = None) -> Notifier:
    return Notifier(manager.getsockname(), watchdog_seconds)


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


@pytest.mark.parametrize(
    ("then", "stuck"),
    [
        (lambda roles: Pulse(roles.pulse.steps), {"refresher": LONGEST + 1}),
        (lambda roles: Pulse(roles.pulse.steps + 1), {}),
        (lambda roles: Pulse(roles.pulse.steps, idle=True), {}),
    ],
    ids=["nothing ended", "something ended", "nothing to do"],
)
def test_a_role_is_stuck_when_it_has_work_and_ends_none(
    then: Callable[[Roles], Pulse], stuck: dict[str, float]
) -> None:
    roles = Roles()
    supervisor = roles.watched(Notifier())
    assert supervisor.stuck() == {}
    roles.now = LONGEST + 1
    roles.pulse = then(roles)
    assert supervisor.stuck() == stuck


def test_a_role_that_was_idle_for_long_has_its_full_time_once_work_comes() -> None:
    roles = Roles()
    supervisor = roles.watched(Notifier())
    roles.pulse = Pulse(3, idle=True)
    supervisor.stuck()
    roles.now, roles.pulse = 10 * LONGEST, Pulse(3, idle=True)
    supervisor.stuck()
    roles.now, roles.pulse = 10 * LONGEST + 5, Pulse(3)
    assert supervisor.stuck() == {}


def test_the_watchdog_starves_while_a_role_is_stuck_and_is_fed_when_it_goes_on(
    manager: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = Roles()
    supervisor = roles.watched(notifier(manager))
    supervisor.report()
    assert heard(manager) == ["STATUS=All works.", "WATCHDOG=1"]
    roles.now = LONGEST + 1
    supervisor.report()
    supervisor.report()
    assert heard(manager) == []
    assert capsys.readouterr().out.count("role_stuck") == 1
    roles.pulse = Pulse(1)
    supervisor.report()
    assert heard(manager) == ["WATCHDOG=1"]


def test_a_stop_has_its_own_deadline_and_the_watchdog_sees_the_loop_only(
    manager: socket.socket,
) -> None:
    roles = Roles()
    supervisor = roles.watched(notifier(manager))
    supervisor.report()
    supervisor.stopping(shutdown_seconds=300)
    roles.now = 10 * LONGEST
    supervisor.report()
    assert heard(manager)[2:] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=315000000", "WATCHDOG=1"]


async def test_reports_come_several_times_in_each_period_of_the_watchdog(manager: socket.socket) -> None:
    at: list[float] = []
    async with asyncio.timeout(60), supervised(notifier(manager, watchdog_seconds=0.9), lambda: "All works."):
        while not at or at[-1] - at[0] < 1.2 or min(b - a for a, b in pairwise(at)) > 0.9 / 2:
            at += heard(manager).count("WATCHDOG=1") * [time.monotonic()]
            await asyncio.sleep(0.005)


def test_a_stuck_loop_feeds_no_watchdog(manager: socket.socket) -> None:
    async def work() -> None:
        async with supervised(notifier(manager, watchdog_seconds=0.03), lambda: "All works."):
            await asyncio.sleep(0)
            heard(manager)
            blocked = asyncio.get_running_loop().time() + 0.3
            while asyncio.get_running_loop().time() < blocked:
                pass
            assert "WATCHDOG=1" not in heard(manager)

    asyncio.run(work())


def test_a_step_may_take_all_the_waits_that_are_configured() -> None:
    slow = Settings.model_validate(
        {"retry": {"attempts": 100, "max_seconds": 600}, "storage": {"read_timeout_seconds": 600}}
    )
    assert longest_step_seconds(Settings()) < 1_200
    assert longest_step_seconds(slow) > 100 * 1_200


def test_a_step_may_take_as_long_as_the_slowest_systems_settings_allow() -> None:
    tables = [{"id": "a", "url": "http://h/a"}, {"id": "b", "url": "http://h/b", "interval_seconds": 86_400}]
    assert longest_step_seconds(Settings.model_validate({"systems": tables})) > 2 * 86_400
