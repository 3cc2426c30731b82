"""The demo as a real process: its directory is its own, nobody else's data is deleted, and no signal surprises it."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bikeflow.layout import Layout
from bikeflow.lock import DEMO_MARK, exclusive, holder
from tests.support.oracle import PREFIX
from tests.support.service import configure, running

LAYOUT = Layout(PREFIX)
PATIENCE_SECONDS = 120.0


async def command(cwd: Path, *arguments: str) -> tuple[int, str]:
    """Run `bikeflow ...` to its end; gives the exit code, and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", *arguments, cwd=cwd, env=_environment(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("BIKEFLOW_", "S3_"))}


class Demo:
    """A running demo and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process = process
        self._output = output

    def text(self) -> str:
        return self._output.read_text()

    async def says(self, text: str, count: int = 1) -> None:
        for _ in range(int(PATIENCE_SECONDS / 0.1)):
            if self.text().count(text) >= count:
                return
            if self.process.returncode is not None:
                break
            await asyncio.sleep(0.1)
        raise AssertionError(f"waited for {text!r}; exit code {self.process.returncode}\n{self.text()}")


@asynccontextmanager
async def demo(cwd: Path, *arguments: str) -> AsyncIterator[Demo]:
    output = cwd / "demo.out"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bikeflow", "demo", *arguments, cwd=cwd, env=_environment(), stdout=file, stderr=file
        )
    try:
        yield Demo(process, output)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def contents(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def raw_files(data_dir: Path) -> set[Path]:
    return set((data_dir / "lake" / LAYOUT.raw).rglob("*.txt"))


async def test_a_live_demo_keeps_its_lake_and_refuses_all_other_writers_and_reloads(tmp_path: Path) -> None:
    async with demo(tmp_path) as live:
        await live.says("Now live")
        before = raw_files(tmp_path / "data/demo")
        in_use = f"error: another bikeflow (process {live.process.pid}) works on data/demo; stop it first\n"
        assert await command(tmp_path, "demo", "--once") == (1, in_use)
        for name in ("run", "fetch", "backfill", "refresh"):
            assert await command(tmp_path, name, "--data-dir", "data/demo") == (1, in_use), name
        await live.says("In your browser: http://127.0.0.1:")
        code, text = await command(tmp_path, "reload", "--data-dir", "data/demo")
        assert code == 1 and text.endswith(": this is a demo, which has no configuration to reload\n")
        live.process.send_signal(signal.SIGHUP)
        await live.says("In your browser: http://127.0.0.1:", count=2)
        assert before and before < raw_files(tmp_path / "data/demo")
        live.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(live.process.wait(), PATIENCE_SECONDS) == 0
        assert live.text().count("event=reload_refused") == 2 and "Traceback" not in live.text()


async def test_a_reload_while_a_demo_writes_its_history_does_not_end_it(tmp_path: Path) -> None:
    async with demo(tmp_path, "--once") as making:
        await making.says("A simulated city")
        making.process.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(making.process.wait(), PATIENCE_SECONDS) == 0
        assert "event=reload_refused" in making.text() and "What to type next" in making.text()


async def test_real_snapshots_never_get_into_a_demos_directory(tmp_path: Path) -> None:
    assert (await command(tmp_path, "demo", "--once"))[0] == 0
    data_dir = tmp_path / "data/demo"
    before = contents(data_dir)
    feed = ("--set", "feed.url=http://127.0.0.1:9/")
    for name in ("run", "fetch"):
        code, text = await command(tmp_path, name, "--data-dir", "data/demo", *feed)
        assert code == 2 and text.startswith("error: data/demo belongs to a demo, and the next demo deletes it"), text
        assert len(text.splitlines()) == 2 and "--data-dir" in text
    assert contents(data_dir) == before
    config = tmp_path / "config.toml"
    async with running(tmp_path / "real", "http://127.0.0.1:9/", config=config) as service:
        await service.logged("event=started")
        configure(config, {"feed.url": "http://127.0.0.1:9/", "data_dir": data_dir, "http.listen": "127.0.0.1:0"})
        service.process.send_signal(signal.SIGHUP)
        assert "belongs to a demo" in await service.logged("event=reload_refused")
        assert await service.stop() == 0
    # what works on the demo's own data goes on working, and the next demo begins with nothing
    for arguments in (["backfill", "--force"], ["refresh"], ["verify"]):
        assert (await command(tmp_path, *arguments, "--data-dir", "data/demo"))[0] == 0
    stale = next(iter(raw_files(data_dir)))
    assert (await command(tmp_path, "demo", "--once"))[0] == 0
    assert not stale.exists() or len(raw_files(data_dir)) == 288


@pytest.mark.parametrize("name", ["lake", "ledger.sqlite", "notes.txt"])
async def test_a_directory_that_holds_anything_else_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "real" / name).mkdir(parents=True)
    code, text = await command(tmp_path, "demo", "--data-dir", "real")
    assert code == 2 and "real is not empty and holds no earlier demo" in text
    assert contents(tmp_path / "real") == {name}


async def test_a_real_lake_within_a_demos_directory_is_not_deleted(tmp_path: Path) -> None:
    with exclusive(tmp_path / "d" / "mine"):
        (tmp_path / "d" / DEMO_MARK).touch()
    before = contents(tmp_path / "d")
    code, text = await command(tmp_path, "demo", "--data-dir", "d")
    assert code == 2 and "d holds another data_dir of bikeflow's, d/mine" in text
    assert contents(tmp_path / "d") == before | {"bikeflow.lock"}


async def test_a_demo_that_was_killed_early_or_lies_behind_a_link_can_be_made_again(tmp_path: Path) -> None:
    with exclusive(tmp_path / "elsewhere"):
        pass
    (tmp_path / "d").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        code, text = await command(tmp_path, "demo", "--data-dir", "d", "--once")
        assert code == 0, text
    assert len(raw_files(tmp_path / "elsewhere")) == 288


async def test_a_demo_ends_with_the_terminal_that_it_runs_on(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - becomes the demo
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "bikeflow", "demo", "--data-dir", "d"], _environment())
    shown = b""
    os.set_blocking(terminal, False)
    try:
        for _ in range(int(PATIENCE_SECONDS / 0.1)):
            try:
                shown += os.read(terminal, 65_536)
            except BlockingIOError:
                await asyncio.sleep(0.1)
            if b"In your browser" in shown:
                break
        os.close(terminal)
        for _ in range(int(PATIENCE_SECONDS / 0.1)):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):  # noqa: ASYNC222 - it does not wait
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"still there: {shown.decode()}")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise


async def test_a_reload_never_ends_a_process_that_does_not_know_the_signal(tmp_path: Path) -> None:
    holding = (
        "import time; from pathlib import Path; from bikeflow.lock import exclusive\n"
        "with exclusive(Path('d')): print('held', flush=True); time.sleep(60)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", holding, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None and await process.stdout.readline() == b"held\n"
        code, text = await command(tmp_path, "reload", "--data-dir", "d")
        assert code == 1 and f"process {process.pid} works on d, but is no service" in text
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


def test_asking_who_holds_a_directory_creates_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path) is None and holder(tmp_path / "none") is None
    assert not list(tmp_path.iterdir())
    with exclusive(tmp_path):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
