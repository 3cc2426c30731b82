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
    answer = await _ask_sender(json.dumps(request).encode(), settings.timeout_seconds + _START_SECONDS)
    if isinstance(answer, str):
        return dict.fromkeys(names, answer)
    return dict(zip(names, answer, strict=True))


async def _ask_sender(request: bytes, patience_seconds: float) -> list[str] | str:
    """Its answers, or why there are none."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow.health.alerts.sender", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience_seconds):
            out, _ = await process.communicate(request)
        answer: list[str] = json.loads(out)
    except TimeoutError:
        return f"no answer within {patience_seconds:g} s"
    except ValueError:
        return f"the sending process has failed with exit code {process.returncode}"
    else:
        return answer
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
