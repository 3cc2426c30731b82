"""The auditor: proves from the lake itself that no line was lost and none counted twice."""

from __future__ import annotations

from bikeflow.verifier.lake import Verifier
from bikeflow.verifier.published import PublishedDatabase
from bikeflow.verifier.report import Finding, Progress, Report

__all__ = ["Finding", "Progress", "PublishedDatabase", "Report", "Verifier"]
