"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

LINE_EVERY_SECONDS = 10.0


@contextmanager
def progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields what is to be told of units done and in all; shows them on stderr with rate and time left."""
    if sys.stderr.isatty():
        with _bar(title, unit) as tell:
            yield tell
    else:
        yield _lines(title, unit)


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        "{task.description}",
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        f"{unit}, {{task.fields[rate]:.0f}}/s",
        rich.TimeElapsedColumn(),
        "left",
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, rate=0.0)
        started = time.monotonic()

        def tell(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=done, total=total, rate=rate)

        yield tell


def _lines(title: str, unit: str) -> Callable[[int, int], None]:
    started = told = time.monotonic()
    told_done = 0

    def tell(done: int, total: int) -> None:
        nonlocal told, told_done
        now = time.monotonic()
        ended = done == total != told_done and told != started
        if now - told >= LINE_EVERY_SECONDS or ended:
            told, told_done = now, done
            rate = done / (now - started)
            left = f", {(total - done) / rate:.0f} s left" if done else ""
            typer.echo(f"{title}: {done} of {total} {unit}, {rate:.0f}/s{left}", err=True)

    return tell
