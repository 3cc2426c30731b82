"""A real Dask cluster for tests: a scheduler and workers, each a process of its own on the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120


class Cluster:
    """A running scheduler, and the workers that it was given."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._environ = {**os.environ, **environ}
        self._port = _free_port()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._scheduler = self._start("scheduler", "dask_scheduler", "--port", f"{self._port}")
        self._log_says("scheduler", f":{self._port}")

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return f"tcp://127.0.0.1:{self._port}"

    def add_worker(self) -> subprocess.Popen[bytes]:
        """One more worker; back when the scheduler knows it."""
        name = f"worker-{len(self.workers)}"
        options = ["--nthreads", "1", "--no-nanny", "--name", name, "--local-directory", str(self._directory)]
        worker = self._start(name, "dask_worker", self.address, *options)
        self.workers.append(worker)
        self._log_says(name, "Registered to:")
        return worker

    def end(self) -> None:
        """Kill all of it."""
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()

    def _start(self, name: str, program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            f"distributed.cli.{program}",
            *options,
            "--host",
            "127.0.0.1",
            "--no-dashboard",
        ]
        with (self._directory / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._environ, cwd=self._directory)

    def _log_says(self, name: str, text: str) -> None:
        log = self._directory / f"{name}.log"
        give_up = time.monotonic() + START_SECONDS
        while text not in log.read_text():
            if time.monotonic() > give_up:
                raise RuntimeError(f"no {text!r} from {name}: {log.read_text()}")
            time.sleep(0.05)


@contextmanager
def cluster(directory: Path, environ: Mapping[str, str]) -> Iterator[Cluster]:
    """A scheduler without workers; all that it was given since are killed at the end. `environ` is the workers'."""
    started = Cluster(directory, environ)
    try:
        yield started
    finally:
        started.end()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
