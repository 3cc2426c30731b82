"""The documents say what is so: layers, paths and links, the example of a configuration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bikeflow.feeds import check_formats
from bikeflow.settings import load_settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "bikeflow/README.md",
        "systemd/README.md",
        "tests/benchmarks/README.md",
        "tests/faults/README.md",
        ".github/CONTRIBUTING.md",
    )
]


def rooms(floors: list[str]) -> list[list[str]]:
    """The folders of each layer, `cli | service`, in alphabetical order where there are several."""
    return [sorted(room.strip(" ()") for room in floor.split("|")) for floor in floors]


def test_the_layers_in_the_picture_are_those_of_the_contract() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    folders = (ROOT / "bikeflow/README.md").read_text(encoding="utf-8").partition("## The folders")[2]
    picture = folders.split("```")[1].strip().splitlines()
    assert rooms([re.split(r" {2,}", line)[0] for line in picture]) == rooms(contract["layers"])


def test_what_is_to_be_changed_to_add_something_exists() -> None:
    text = (ROOT / "bikeflow/README.md").read_text(encoding="utf-8").partition("## To add something")[2]
    names = set(re.findall(r"`([a-z_./]+/|[a-z_./]+\.(?:py|sql|csv|md|toml))`", text))
    assert len(names) > 10
    missing = [name for name in names if not (ROOT / "bikeflow" / name).exists() and not (ROOT / name).exists()]
    assert missing == []


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


def test_the_example_of_several_systems_is_valid(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Several systems")[2]
    (tmp_path / "config.toml").write_text(section.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    systems = load_settings(tmp_path / "config.toml", environ={}).settings.all_systems
    check_formats(systems)
    assert [(system.id, system.prefix) for system in systems] == [
        ("wrm", "bike-data/gen_info/"),
        ("other", "bike-data/other/"),
    ]
