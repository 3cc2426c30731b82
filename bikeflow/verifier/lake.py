"""The audit of the whole lake, and of the database that was published from it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from bikeflow.core.layout import NO_DAY
from bikeflow.core.model import UTC
from bikeflow.core.scope import Scope
from bikeflow.settings.systems import System
from bikeflow.store.base import Store
from bikeflow.verifier.published import PublishedDatabase
from bikeflow.verifier.report import Days, Finding, Progress, Report
from bikeflow.verifier.system import SystemAudit

SETTLE_SECONDS = 2.0
"""What is being written just now looks wrong for a moment: a finding counts if it is still there after this time."""


def _silent(_done: int, _total: int) -> None:
    """Show no progress."""


class Verifier:
    """Audits the lake, system by system, and the published database where one is given.

    `sample` raw files of each day are parsed again, others each time; None: all. So are those with dead letters.
    `unwritten_seconds`: a service at work writes raw files to Parquet within so long; newer ones need not be there.
    `known` gives the keys of the raw files that the ledger knows of a system: none of them may be missing.
    """

    def __init__(
        self,
        store: Store,
        systems: Iterable[System],
        *,
        sample: int | None = 0,
        database: PublishedDatabase | None = None,
        unwritten_seconds: float = 0,
        known: Callable[[System], Collection[str]] = lambda system: (),
    ) -> None:
        self._store = store
        self._systems = tuple(systems)
        self._sample = sample
        self._database = database
        self._unwritten_seconds = unwritten_seconds
        self._known = known

    async def verify(self, scope: Scope, tell: Progress = _silent) -> Report:
        """Audit all partitions of the scope; what is found is looked at twice, as a service may be at work.

        `tell` is called with numbers of raw files, or of systems where there are several.
        """
        wanted = {system.id: scope.has_day for system in self._systems if scope.has(system.id)}
        report = await self._audit(wanted, tell)
        if report.findings:
            seen = {(finding.kind, finding.key) for finding in report.findings}
            await asyncio.sleep(SETTLE_SECONDS)
            # What is found only now has had no time to settle either: the next audit will find it, if it stays.
            report.findings = [item for item in await self.again(report.findings) if (item.kind, item.key) in seen]
        return report

    async def again(self, findings: Sequence[Finding]) -> list[Finding]:
        """Audit the partitions of earlier findings again; the raw files that these name are always parsed."""
        systems = {item.system_id for item in findings}
        wanted = {
            system.id: _days_of(findings, system.id)
            for system in self._systems
            if system.id in systems or "" in systems  # what belongs to no system concerns them all
        }
        return (await self._audit(wanted, _silent, {item.key for item in findings})).findings

    async def _audit(self, wanted: Mapping[str, Days], tell: Progress, suspects: Collection[str] = ()) -> Report:
        report, audited = Report(), dict[str, SystemAudit]()
        copies = self._database.compare_copy if self._database is not None else None
        until = None
        if self._unwritten_seconds:
            until = dt.datetime.now(UTC) - dt.timedelta(seconds=self._unwritten_seconds)
        systems = [system for system in self._systems if system.id in wanted]
        for number, system in enumerate(systems, start=1):
            known = await asyncio.to_thread(self._known, system)
            audit = SystemAudit(self._store, system, self._sample, suspects, copies, until, known)
            audited[system.id] = audit
            await audit.run(wanted[system.id], tell if len(systems) == 1 else _silent)
            report.add(audit.report, system.id)
            if len(systems) > 1:
                tell(number, len(systems))
        if self._database is not None:
            whole = len(audited) == len(self._systems) and all(audit.enhanced.complete for audit in audited.values())
            await asyncio.to_thread(self._database.compare, audited, wanted, report, whole=whole)
        report.findings.sort(key=lambda finding: (finding.key, finding.kind))
        return report


def _days_of(findings: Iterable[Finding], system_id: str) -> Days:
    days = {item.partition.day for item in findings if item.system_id in ("", system_id)}

    def wanted(day: dt.date) -> bool:
        return day in days or NO_DAY in days  # what belongs to no day concerns them all

    return wanted
