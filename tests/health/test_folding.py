"""Many faults in one line."""

from __future__ import annotations

import datetime as dt

from bikeflow.core.model import UTC, Fault
from bikeflow.health.folding import folded
from bikeflow.health.readiness import fold

NOW = dt.datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = {**{f"s{number}": "gbfs.example.org" for number in range(38)}, "nyc": "one.example", "ulm": "two.example"}


def test_few_systems_are_named_one_by_one() -> None:
    assert folded({"nyc": "it answers 404", "s1": "it hangs"}, HOSTS) == "nyc: it answers 404; s1: it hangs"


def test_many_systems_of_one_host_are_one_line() -> None:
    reasons = {name: "it answers 503" for name in HOSTS}
    assert folded(reasons, HOSTS) == (
        "38 systems of gbfs.example.org, such as s0: it answers 503; nyc: it answers 503; ulm: it answers 503"
    )


def test_more_hosts_than_can_be_named_are_counted() -> None:
    reasons = {f"s{number}": "it hangs" for number in range(1500)}
    text = folded(reasons, {name: f"{int(name[1:]) % 5}.example" for name in reasons})
    assert text.count("300 systems of ") == 3 and text.endswith("; and 600 more")


def test_faults_of_all_systems_are_one_since_the_oldest() -> None:
    faults = {
        name: None if name == "nyc" else Fault(NOW + dt.timedelta(hours=name == "s0"), "it hangs") for name in HOSTS
    }
    fault = fold(faults, HOSTS)
    told = "39 of 40 systems: 38 systems of gbfs.example.org, such as s1: it hangs; ulm: it hangs"
    assert fault == Fault(NOW, told, 39)
    assert fold({"wrm": Fault(NOW, "it hangs")}, {}) == Fault(NOW, "it hangs")
    assert fold({"nyc": None, "ulm": Fault(NOW, "it hangs")}, HOSTS) == Fault(NOW, "ulm: it hangs")
