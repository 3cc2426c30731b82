"""What systemd/monitoring/ gives to Prometheus and Grafana fits what /metrics really tells."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.model import AlertSent, SchemaDrifted, SettingsReloaded
from tests.http.conftest import Scene
from tests.http.test_metrics import parsed
from tests.support.lines import bike, raw_file, station

MONITORING = Path(__file__).parents[2] / "systemd" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = MONITORING / "bikeflow.rules.yml"
FROM_PROMETHEUS = {"instance", "job", "le"}
PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: apt-get install prometheus")


def promtool(*arguments: str, text: str = "") -> None:
    """Run it; fails with what it says."""
    assert PROMTOOL is not None
    command = [PROMTOOL, *arguments]
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True, cwd=MONITORING)
    assert done.returncode == 0, done.stdout + done.stderr


def queries(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of every query on the dashboard."""
    for panel in panels:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def expressions() -> dict[str, str]:
    """Every expression that is shipped, by a name."""
    shown = {f"panel {title}: {expression}": expression for title, expression, _ in queries(DASHBOARD["panels"])}
    shown |= {f"annotation {item['name']}": item["expr"] for item in DASHBOARD["annotations"]["list"]}
    alerts = re.findall(r"- alert: (\w+)\n\s+expr: (?:>-\n)?(.*?)\n\s+(?:for|labels):", RULES.read_text(), re.DOTALL)
    assert len(alerts) == RULES.read_text().count("- alert:")
    return shown | {f"alert {name}": expression for name, expression in alerts}


async def told(scene: Scene) -> str:
    """A scrape after something of everything has happened."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10)
    await scene.arrives(raw_file(station(1), bike(2), station(3, bikes="x")), at)
    for event in (SchemaDrifted("wrm", ("x",)), AlertSent(arrived=True), SettingsReloaded(at, applied=True)):
        scene.site.health.seen.observe(event)
        scene.site.metrics.observe(event)
    return (await scene.client.ask("/metrics")).text


async def test_each_query_and_rule_asks_for_metrics_and_labels_that_exist(scene: Scene) -> None:
    known: dict[str, dict[str, set[str]]] = {"up": {}}
    for family in parsed(await told(scene)):
        for sample in family.samples:
            labels = known.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    asked = expressions()
    assert len(asked) > 45
    for name, expression in asked.items():
        metrics = re.findall(r"\b((?:bikeflow|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?", expression)
        assert metrics, name
        for metric, selector in metrics:
            assert metric in known, f"{name}: no metric {metric}"
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', selector):
                if label not in FROM_PROMETHEUS:
                    assert set(values.split("|")) <= known[metric][label], f"{name}: {metric} has no {label} {values}"
        every = set().union(*(known[metric].keys() for metric, _ in metrics))
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(grouped.split(", ")) <= every | FROM_PROMETHEUS, name


async def test_each_legend_and_the_variables_name_labels_that_exist(scene: Scene) -> None:
    labels = {name for family in parsed(await told(scene)) for sample in family.samples for name in sample.labels}
    for title, _, legend in queries(DASHBOARD["panels"]):
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, title
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


async def test_every_metric_of_ours_is_on_the_dashboard_or_in_a_rule(scene: Scene) -> None:
    text = " ".join(expressions().values())
    left_out = {
        "bikeflow_duplicate_snapshots",
        "bikeflow_raw_files",
        "bikeflow_config_last_reload_success_timestamp_seconds",
    }
    families = {family.name for family in parsed(await told(scene)) if family.name.startswith("bikeflow_")}
    assert {name for name in families if name not in text} == left_out


@with_promtool
async def test_promtool_finds_nothing_to_say_about_the_metrics(scene: Scene) -> None:
    await asyncio.to_thread(promtool, "check", "metrics", text=await told(scene))


@with_promtool
def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", RULES.name)
    promtool("test", "rules", "bikeflow.rules.test.yml")


@with_promtool
def test_every_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    asked = [expression.replace("$__rate_interval", "5m") for _, expression, _ in queries(DASHBOARD["panels"])]
    rules = [{"record": f"query:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "queries.json").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", str(tmp_path / "queries.json"))


def test_every_alert_has_its_line_in_the_readme() -> None:
    readme = (MONITORING.parent / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert [name for name in names if f"`{name}`" not in readme] == []
