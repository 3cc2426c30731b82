"""A throw-away machine whose process 1 is a real systemd, as `.ci/systemd` has booted it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOL = os.environ.get("TEST_BOX", "")
"""The script that runs commands in the box; empty where there is none."""

PATIENCE_SECONDS = 120.0
UNIT = "bikeflow.service"
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/test.conf")


@dataclass(frozen=True)
class Finished:
    """A command of the box that has ended."""

    code: int
    stdout: str
    stderr: str


class Box:
    """Runs commands in the box, and sees its files from outside."""

    def __init__(self) -> None:
        leader = (Path(os.environ["BOX_DIR"]) / "leader").read_text().split()[0]
        self._root = Path(f"/proc/{leader}/root")

    def path(self, path: str | Path) -> Path:
        """A file of the box, seen from here; links in it are not followed well."""
        return self._root / str(path).lstrip("/")

    async def run(self, *command: str, cwd: str = "/", environ: dict[str, str] | None = None) -> Finished:
        """Run a command to its end, however it ends."""
        settings = [word for name, value in (environ or {}).items() for word in ("--env", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            "bash", TOOL, "exec", "--cwd", cwd, *settings, *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        stdout, stderr = await process.communicate()
        return Finished(process.returncode or 0, stdout.decode(), stderr.decode())

    async def does(self, *command: str, cwd: str = "/", environ: dict[str, str] | None = None) -> str:
        """Run a command that has to succeed; returns what it printed."""
        finished = await self.run(*command, cwd=cwd, environ=environ)
        assert finished.code == 0, f"{command}: {finished}\n{await self.journal()}"
        return finished.stdout

    async def shows(self, name: str) -> str:
        """A property of the unit."""
        return (await self.does("systemctl", "show", UNIT, "--value", "-p", name)).strip()

    async def until_shows(self, name: str, condition: Callable[[str], bool]) -> str:
        """Wait until a property of the unit is so; returns it."""
        value = ""
        for _ in range(int(PATIENCE_SECONDS / 0.2)):
            value = await self.shows(name)
            if condition(value):
                return value
            await asyncio.sleep(0.2)
        raise AssertionError(f"waited for {name}, which is {value!r}\n{await self.journal()}")

    async def journal(self, *arguments: str) -> str:
        """The messages of the unit, and of systemd about it, one a line."""
        await self._synced()
        return (await self.run("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", *arguments)).stdout

    async def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Entries of the journal with all their fields, oldest first."""
        await self._synced()
        lines = await self.does("journalctl", "-o", "json", "--no-pager", f"_SYSTEMD_UNIT={UNIT}", *matches)
        return [json.loads(line) for line in lines.splitlines()]

    async def _synced(self) -> None:
        # Until then the journal may not have read what was sent to it.
        await self.run("journalctl", "--sync")

    def adjust(self, *lines: str) -> None:
        """Override settings of the shipped unit until the next boot; systemd reads them at its next reload."""
        file = self.path(DROP_IN)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(("[Service]", *lines, "")))
