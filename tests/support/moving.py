"""`moving.py N COMMAND …`: the `bikeflow` command that moves rows of open days to files after N rows, not 200,000."""

from __future__ import annotations

import sys

from bikeflow.__main__ import main
from bikeflow.warehouse import moved

if __name__ == "__main__":
    moved.MOVED_ROWS = int(sys.argv.pop(1))
    main()
