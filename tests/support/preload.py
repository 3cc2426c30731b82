"""Libraries that are loaded into processes before all others, to change what the system tells them."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path


def built(source: str, folder: Path) -> Path | None:
    """The library of a C file of this directory, in `folder`; None without Linux or without a C compiler (`cc`)."""
    compiler = shutil.which("cc")
    if compiler is None or sysconfig.get_platform().partition("-")[0] != "linux":
        return None
    source_file, library = Path(__file__).with_name(source), folder / Path(source).with_suffix(".so").name
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source_file, "-ldl"], check=True)
    return library
