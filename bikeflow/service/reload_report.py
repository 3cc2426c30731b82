"""How the last reload of a service ended, as a small file that `bikeflow reload` waits for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE_NAME = "reload.json"


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """One reload: `began` is on the machine's monotonic clock, `at` RFC 3339; `changed` maps settings to words.

    `reason` says why it was refused, and is empty where it was applied.
    """

    process_id: int
    began: float
    at: str
    changed: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def write_report(data_dir: Path, report: ReloadReport) -> None:
    """Replace the report in `data_dir`; raises OSError."""
    file = data_dir / FILE_NAME
    part = file.with_name(f".{FILE_NAME}.part")
    part.write_text(json.dumps(asdict(report), ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(file)


def read_report(data_dir: Path) -> ReloadReport | None:
    """The last report in `data_dir`, or None where there is none that can be read."""
    try:
        return ReloadReport(**json.loads((data_dir / FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
