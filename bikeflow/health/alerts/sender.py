"""A process of its own that hands one message to Apprise: `python -m bikeflow.health.alerts.sender`, JSON in, JSON out.

Channels are slow, hang and take memory; here they can do no harm to the service. URLs come by stdin, as arguments and
the environment of a process can be seen by others.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypedDict
from urllib.parse import urlsplit

import apprise

_TYPES = {
    "problem": apprise.NotifyType.FAILURE,
    "reminder": apprise.NotifyType.WARNING,
    "recovery": apprise.NotifyType.SUCCESS,
    "test": apprise.NotifyType.INFO,
}


class Request(TypedDict):
    """What to send where."""

    urls: list[str]
    kind: str
    title: str
    body: str
    timeout_seconds: float


def main() -> None:
    """Send it to all targets side by side; answers with the reason why not, or "", for each of them."""
    request: Request = json.load(sys.stdin)
    with ThreadPoolExecutor(max(len(request["urls"]), 1)) as threads:
        json.dump(list(threads.map(partial(_send, request), request["urls"])), sys.stdout)


def _send(request: Request, url: str) -> str:
    asset = apprise.AppriseAsset(
        app_id="bikeflow", app_desc="bikeflow", storage_mode="memory", service_timeout=request["timeout_seconds"]
    )
    channel = apprise.Apprise(asset=asset)
    if not channel.add(url):
        return "Apprise does not know such a URL"
    result = channel.notify(
        title=request["title"], body=request["body"], notify_type=_TYPES[request["kind"]], body_format="text",
        log_level=logging.WARNING,
    )  # fmt: skip
    if result:
        return ""
    words = [entry.message for target in result.results for entry in target.logs()]
    return without_secrets("; ".join(words) or result.status.name.lower(), url)


def without_secrets(text: str, url: str) -> str:
    """The text without any part of the URL but its scheme and host."""
    parts = urlsplit(url)
    public = {parts.scheme, parts.hostname or ""}
    for piece in sorted(set(re.findall(r"[^/:@?&=,;#\s]{3,}", url)) - public, key=len, reverse=True):
        text = text.replace(piece, "(hidden)")
    return " ".join(text.split())


if __name__ == "__main__":
    main()
