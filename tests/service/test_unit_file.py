"""The shipped unit agrees with the program: secrets, commands and deadlines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bikeflow.cli.app import COMMANDS
from bikeflow.health.supervision import CLOSING_SECONDS
from bikeflow.settings import Settings
from bikeflow.settings.model import CREDENTIALS

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = (SYSTEMD / "bikeflow.service").read_text(encoding="utf-8")


@pytest.mark.parametrize("secret", CREDENTIALS)
@pytest.mark.parametrize("file", ["bikeflow.service", "command.sh"])
def test_every_secret_is_a_credential(secret: str, file: str) -> None:
    text = (SYSTEMD / file).read_text(encoding="utf-8")
    # A name without a path is looked for in the credential stores, and may be missing.
    assert re.search(rf"LoadCredential={secret}:bikeflow\.{secret}\b", text)


def test_the_unit_s_deadline_leaves_time_for_our_own() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > Settings().daemon.shutdown_seconds + CLOSING_SECONDS


def test_the_commands_of_the_unit_exist() -> None:
    wanted = set(re.findall(r"^Exec\w+=\S*/bikeflow (\w+)", UNIT, re.MULTILINE))
    assert wanted == {"run", "reload"}
    assert wanted <= COMMANDS.keys()
