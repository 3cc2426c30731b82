"""What the service must not carry along."""

from __future__ import annotations

import subprocess
import sys


def test_apprise_and_its_plugins_are_loaded_by_the_sending_process_alone() -> None:
    code = "import sys, bikeflow.service.daemon; sys.exit('apprise' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
