"""Every call to the store fails once, in every way: the lake and the database come out the same, to the last byte."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.faults.scenario import PHASES, World
from tests.support.chaos import ChaosStore, Kind
from tests.support.rounds import rounds


async def outcome(world: World, *, restart: bool, first_phase: int = 0) -> dict[str, object]:
    """Run the scenario (what is left of it); the verdict must be clean and no bug may have shown up on the way."""
    async with world.opened():
        with capture_logs() as logs:
            await world.run(restart=restart, first_phase=first_phase)
    place = f"{world.chaos.failed}; {world.failures}"
    crashed = [entry for entry in logs if entry["event"] == "run_crashed"]
    assert not crashed, f"{place}: {crashed}"
    try:
        world.audit().assert_exactly_once()
    except AssertionError as error:
        raise AssertionError(f"{place}\n{error}") from error
    return world.state()


def concerned(kind: Kind, calls: list[str]) -> list[int]:
    """The numbers of the calls that a kind of fault can hit in a way of its own (else it is the same as `before`)."""
    verbs = {"after": ("put", "delete"), "late": ("put", "delete"), "truncated": ("get",)}.get(kind, ("",))
    return [number for number, call in enumerate(calls, start=1) if call.startswith(verbs)]


async def fails_everywhere(directory: Path, kind: Kind, *, restart: bool, step: int = 1) -> int:
    """Let every `step`th call that is concerned fail, each in a scenario of its own; returns how many did.

    Those of the second phase begin with what the first one, in which nothing failed, has left.
    """
    faultless, begun = World(directory / "faultless"), World(directory / "begun")
    expected = await outcome(faultless, restart=restart)
    assert not faultless.failures and len(faultless.chaos.calls) > 100
    async with begun.opened():
        await begun.run_phase(PHASES[0])
    made = begun.chaos.calls
    assert sorted(faultless.chaos.calls[: len(made)]) == sorted(made)
    numbers = concerned(kind, faultless.chaos.calls)[::step]
    for nth in numbers:
        if nth <= len(made):
            world = World(directory / f"{nth}", partial(ChaosStore, nth=nth, kind=kind))
            state = await outcome(world, restart=restart)
        else:
            world = begun.copy(directory / f"{nth}", partial(ChaosStore, nth=nth, kind=kind, before=made))
            state = await outcome(world, restart=restart, first_phase=1)
        assert world.chaos.failed
        different = {key for key in state.keys() | expected.keys() if state.get(key) != expected.get(key)}
        assert not different, f"call {nth}, {world.chaos.failed}: {sorted(different)}"
        shutil.rmtree(world.data_dir)
    return len(numbers)


@pytest.mark.parametrize(
    ("kind", "step", "restart"),
    [
        ("before", rounds(80, 40), True),
        ("after", rounds(36, 18), True),
        ("late", rounds(24, 12), True),
        ("truncated", rounds(24, 12), True),
        ("hang", rounds(120, 99), False),
    ],
)
async def test_a_call_that_fails_now_and_then_leaves_no_trace(
    tmp_path: Path, kind: Kind, step: int, restart: bool
) -> None:
    """With `--long` it is many calls, `make soak` runs all."""
    await fails_everywhere(tmp_path, kind, restart=restart, step=step)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("restart", [False, True], ids=["the same process goes on", "a new process takes over"])
@pytest.mark.parametrize(("kind", "step"), [("before", 4), ("after", 2), ("late", 1), ("truncated", 2)])
async def test_whichever_call_fails_it_leaves_no_trace(tmp_path: Path, kind: Kind, step: int, restart: bool) -> None:
    await fails_everywhere(tmp_path, kind, restart=restart, step=step)
