"""A real PostgreSQL for tests, from Debian's package: on the loopback interface, in a directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_SECONDS = 120
_USER = "postgres" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root."""


def programs() -> Path | None:
    """The directory of PostgreSQL's programs, or None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    other = shutil.which("initdb")
    return found[-1].parent if found else Path(other).parent if other else None


@contextmanager
def postgres(binaries: Path) -> Iterator[str]:
    """A running PostgreSQL; gives the connection string of its superuser."""
    directory = Path(tempfile.mkdtemp(prefix="bikeflow-postgres-"))
    if _USER:
        shutil.chown(directory, _USER)
    data, log = directory / "data", directory / "log"
    try:
        with log.open("wb") as output:
            made = [str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "tester", "-E", "UTF8", "-N"]
            subprocess.run(made, check=True, stdout=output, stderr=output, user=_USER, cwd="/")
            port = _free_port()
            options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(directory), "-F"]
            server = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(data), *options],
                stdout=output,
                stderr=output,
                user=_USER,
                cwd="/",
            )
        try:
            dsn = f"postgresql://tester@127.0.0.1:{port}/postgres"
            _await_start(server, dsn, log)
            yield dsn
        finally:
            server.terminate()
            server.wait()
    finally:
        shutil.rmtree(directory)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_start(server: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and server.poll() is None:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
