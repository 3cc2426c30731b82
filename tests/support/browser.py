"""A real browser for tests of the pages: headless Chromium, told what to do over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb"
    " --remote-debugging-port=0"
)
_PATIENCE_SECONDS = 20.0


class Tab:
    """One page in the browser; `complaints` are errors, warnings and breaches of the policy that it has logged."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._session: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []

    async def attach(self) -> None:
        """Open the tab in the browser."""
        target = await self.send("Target.createTarget", url="about:blank")
        session = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")

    async def listen(self) -> None:
        """Read what the browser says, until it ends."""
        async for message in self._socket:
            said = message.json()
            if (waiting := self._waiting.pop(said.get("id", 0), None)) and not waiting.done():
                waiting.set_result(said)
            elif said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(str(said["params"]["exceptionDetails"]))
            elif said.get("method") == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **self._session})
        async with asyncio.timeout(_PATIENCE_SECONDS):
            said = await answer
        assert "error" not in said, f"{method}: {said}"
        result: dict[str, Any] = said["result"]
        return result

    async def open(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Load a page in a window of this size."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.send("Emulation.setEmulatedMedia", features=scheme)
        phone = width < 600
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        await self.send("Page.navigate", url=url)
        await self.until("location.protocol !== 'about:' && document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await self.run(f"Boolean({condition})"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def text(self, selector: str) -> str:
        """What is written in an element, as people see it."""
        return str(await self.run(f"document.querySelector({selector!r}).innerText"))

    async def point(self, x: float, y: float) -> None:
        """Move the mouse there."""
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def press(self, key: str) -> None:
        """Press a key, such as `Tab` or `ArrowLeft`."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("rawKeyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes.get(key, 0)
            )

    async def picture(self, file: Path, *, whole: bool = True) -> None:
        """Write a screenshot, of the whole page or of the window."""
        shot = await self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))  # noqa: ASYNC240


@asynccontextmanager
async def browsing(profile: Path) -> AsyncIterator[Tab]:
    """A tab of a new browser; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    browser = await asyncio.create_subprocess_exec(
        chromium, *_OPTIONS.split(), f"--user-data-dir={profile}", "about:blank", stderr=asyncio.subprocess.PIPE
    )
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(await _address(browser), max_msg_size=0) as socket:
            tab = Tab(socket)
            listening = asyncio.create_task(tab.listen())
            await tab.attach()
            yield tab
            with suppress(TimeoutError):
                await tab.send("Browser.close")
            listening.cancel()
    finally:
        with suppress(ProcessLookupError):
            browser.terminate()
        await browser.wait()


async def _address(browser: asyncio.subprocess.Process) -> str:
    """Where the browser takes commands, as it says on stderr."""
    assert browser.stderr is not None
    async with asyncio.timeout(_PATIENCE_SECONDS):
        async for line in browser.stderr:
            if found := re.search(rb"DevTools listening on (ws://\S+)", line):
                return found[1].decode()
    raise AssertionError("the browser did not start")
