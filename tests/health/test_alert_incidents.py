"""From conditions to messages: how many, when, and across restarts."""

from __future__ import annotations

import datetime as dt

import pytest

from bikeflow.core.model import UTC, Fault
from bikeflow.health.alerts.incidents import Incidents
from bikeflow.health.alerts.messages import Alert
from bikeflow.settings.sections import AlertsSettings

START = dt.datetime(2026, 6, 1, tzinfo=UTC)
SETTINGS = AlertsSettings(grace_seconds=300, cooldown_seconds=3_600)


class Watch:
    """Plays a day: what is amiss at which minute, and whether the channel takes messages."""

    def __init__(self) -> None:
        self.incidents = Incidents()
        self.sent: list[tuple[float, str, str]] = []

    def minutes(
        self,
        first: int,
        last: int,
        amiss: bool,
        channel: bool = True,
        alert: Alert = "feed_silent",
        systems: int = 1,
    ) -> None:
        for minute in range(first, last):
            now = START + dt.timedelta(minutes=minute)
            self.incidents = Incidents.load(self.incidents.dump())  # as if it were started anew each minute
            since = START + dt.timedelta(minutes=first)
            self.incidents.observe({alert: Fault(since, "it is down", systems) if amiss else None}, SETTINGS, now)
            while (due := self.incidents.due(SETTINGS, now)) is not None:
                if not channel:
                    break
                self.incidents.told(*due, now)
                self.sent.append((minute, due[1].kind, due[1].title))

    def kinds(self) -> list[tuple[float, str]]:
        return [(minute, kind) for minute, kind, _ in self.sent]


def test_an_incident_is_one_message_reminders_at_the_cooldown_and_one_recovery() -> None:
    watch = Watch()
    watch.minutes(0, 10, amiss=False)
    watch.minutes(10, 150, amiss=True)
    watch.minutes(150, 300, amiss=False)
    assert watch.kinds() == [(15, "problem"), (75, "reminder"), (135, "reminder"), (155, "recovery")]
    assert not watch.incidents.open


def test_an_incident_that_spreads_to_twice_as_many_systems_is_told_again_after_the_grace() -> None:
    watch = Watch()
    watch.minutes(0, 10, amiss=True, systems=3)
    watch.minutes(10, 20, amiss=True, systems=5)
    watch.minutes(20, 24, amiss=True, systems=40)  # but not for long
    watch.minutes(24, 30, amiss=True, systems=5)
    watch.minutes(30, 50, amiss=True, systems=38)
    assert watch.kinds() == [(5, "problem"), (35, "reminder")]


def test_what_is_over_before_the_grace_is_never_told() -> None:
    watch = Watch()
    watch.minutes(0, 4, amiss=True)
    watch.minutes(4, 60, amiss=False)
    assert watch.sent == []


def test_what_comes_and_goes_is_one_incident() -> None:
    watch = Watch()
    for start in range(0, 60, 10):
        watch.minutes(start, start + 7, amiss=True)
        watch.minutes(start + 7, start + 10, amiss=False)
    watch.minutes(60, 70, amiss=False)
    assert watch.kinds() == [(5, "problem"), (62, "recovery")]


def test_while_no_channel_takes_it_the_message_waits_and_is_sent_once() -> None:
    watch = Watch()
    watch.minutes(0, 30, amiss=True, channel=False)
    watch.minutes(30, 35, amiss=True)
    assert watch.kinds() == [(30, "problem")]


def test_an_incident_that_nobody_could_be_told_of_is_one_message_afterwards() -> None:
    watch = Watch()
    watch.minutes(0, 30, amiss=True, channel=False)
    watch.minutes(30, 40, amiss=False, channel=False)
    watch.minutes(40, 50, amiss=False)
    assert watch.kinds() == [(40, "recovery")]


def test_two_incidents_are_told_of_one_by_one() -> None:
    incidents = Incidents()
    faults: dict[Alert, Fault | None] = {"feed_silent": Fault(START, "a"), "disk_low": Fault(START, "b")}
    now = START + dt.timedelta(minutes=5)
    incidents.observe(faults, SETTINGS, now)
    assert incidents.open == {"feed_silent", "disk_low"}
    titles = []
    while due := incidents.due(SETTINGS, now):
        incidents.told(*due, now)
        titles.append(due[1].title)
    assert titles == ["no snapshots come in", "the disk is almost full"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"feed_silent": 1}', '{"unknown": {}}', '{"feed_silent": {"since": "x"}}']
)
def test_a_damaged_state_is_an_error_that_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        Incidents.load(text)
