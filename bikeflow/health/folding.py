"""What is wrong with many systems, in one line that people can read."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from bikeflow.settings import Settings

NAMED = 3
"""So many systems, or hosts, are named one by one."""


def hosts_of(settings: Settings) -> dict[str, str]:
    """The host that each system's feed comes from."""
    return {system.id: urlsplit(system.feed.url).hostname or "" for system in settings.all_systems}


def folded(reasons: Mapping[str, str], hosts: Mapping[str, str]) -> str:
    """What is wrong, by system, as one text: systems one by one where they are few, else those of a host together.

    Such as `38 systems of gbfs.example.org, such as ulm: it answers 503; nyc: it answers 404; and 2 more`.
    """
    if len(reasons) <= NAMED:
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    by_host: dict[str, list[str]] = {}
    for name in reasons:
        by_host.setdefault(hosts.get(name, ""), []).append(name)
    groups = sorted(by_host.items(), key=lambda group: -len(group[1]))
    told = [_group(host, names, reasons) for host, names in groups[:NAMED]]
    others = sum(len(names) for _, names in groups[NAMED:])
    return "; ".join([*told, f"and {others} more"] if others else told)


def _group(host: str, names: list[str], reasons: Mapping[str, str]) -> str:
    first = f"{names[0]}: {reasons[names[0]]}"
    return first if len(names) == 1 else f"{len(names):,} systems of {host}, such as {first}"
