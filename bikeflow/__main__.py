"""The `bikeflow` command, also as `python -m bikeflow`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit.

    Loading takes most of a second. A service that is told to stop meanwhile has nothing to finish, and stops as it
    would later, with exit code 0; once it is loaded, its own handlers take over.
    """
    if "run" in sys.argv[1:]:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from bikeflow.cli.app import main as run_command  # noqa: PLC0415 - after the handler

    run_command()


if __name__ == "__main__":
    main()
