"""`python -m bikeflow` is the `bikeflow` command."""

from __future__ import annotations

from bikeflow.cli.app import main

main()
