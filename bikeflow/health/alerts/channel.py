"""The way out: each message goes through a process of its own, which may take its time, fail or hang."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from urllib.parse import urlsplit

from bikeflow.health.alerts.messages import Message
from bikeflow.settings.sections import AlertsSettings

_START_SECONDS = 10.0
"""What a process may take to begin, above the time that its channels have."""


async def send(message: Message, settings: AlertsSettings) -> dict[str, str]:
    """Send to all targets; the reason why not, or "", by names that hold no secret, such as `2 (slack)`."""
    request = {
        "urls": settings.targets,
        "kind": message.kind,
        "title": f"bikeflow on {socket.gethostname()}: {message.title}",
        "body": message.body,
        "timeout_seconds": settings.timeout_seconds,
    }
    names = [f"{number} ({urlsplit(url).scheme})" for number, url in enumerate(settings.targets, start=1)]
    patience_seconds = settings.timeout_seconds + _START_SECONDS
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow.health.alerts.sender", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience_seconds):
            out, _ = await process.communicate(json.dumps(request).encode())
        return dict(zip(names, json.loads(out), strict=True))
    except TimeoutError:
        return dict.fromkeys(names, f"no answer within {patience_seconds:g} s")
    except ValueError:
        return dict.fromkeys(names, f"the sending process has failed with exit code {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
