"""What systemd hears from the service, over a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikeflow.health.sd_notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(5)
        yield server


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})


def heard(manager: socket.socket) -> dict[str, str]:
    lines = manager.recv(4096).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_each_state_is_one_datagram(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready()
    notifier.watchdog()
    notifier.extend_timeout(2.5)
    notifier.stopping()
    states = [heard(manager) for _ in range(4)]
    assert states == [{"READY": "1"}, {"WATCHDOG": "1"}, {"EXTEND_TIMEOUT_USEC": "2500000"}, {"STOPPING": "1"}]


def test_a_reload_carries_the_clock_that_systemd_compares(manager: socket.socket, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1_000
    notifier.reloading()
    told = heard(manager)
    assert told["RELOADING"] == "1"
    assert before <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1_000


def test_a_status_is_one_line_and_not_repeated(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("All works:\nREADY=1 is no trick")
    notifier.status("All works: READY=1 is no trick")
    notifier.status("ż" * 5_000)
    assert heard(manager) == {"STATUS": "All works: READY=1 is no trick"}
    assert heard(manager) == {"STATUS": "ż" * 500}


def test_an_abstract_socket_is_reached() -> None:
    name = f"@bikeflow-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0{name[1:]}")
        server.settimeout(5)
        Notifier.from_environment({"NOTIFY_SOCKET": name}).ready()
        assert heard(server) == {"READY": "1"}


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    Notifier.from_environment({}).ready()
    Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_the_one_meant_for_this_process(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier.from_environment(environ).watchdog_seconds == seconds
