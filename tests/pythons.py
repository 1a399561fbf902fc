"""The Pythons that this machine has, of whichever version: those on the path, and those of pyenv.

``python tests/pythons.py 3.12`` prints where that version is, and nothing where it is not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

_NAMES: Final = ("python2.7", "pypy3", *(f"python3.{minor}" for minor in range(5, 16)))
_PYENV: Final = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
_ASK: Final = "import sys; sys.stdout.write('%s %d.%d' % ((sys.executable,) + tuple(sys.version_info[:2])))"


@cache
def found() -> dict[str, str]:
    """Return where each version is, as in ``{"3.12": "/usr/bin/python3.12"}``; that of this process among them."""
    installed = sorted(str(place) for place in _PYENV.glob("*/bin/python") if re.match(r"[\d.]+$", place.parts[-3]))
    places = [sys.executable, *filter(None, map(shutil.which, _NAMES)), *installed]
    versions: dict[str, str] = {}
    for place in places:
        answer = subprocess.run([place, "-c", _ASK], capture_output=True, text=True, timeout=120, check=False)
        executable, _, version = answer.stdout.rpartition(" ")
        if answer.returncode == 0 and version:  # a shim of pyenv ends with 127 where its version is not chosen
            versions.setdefault(version, executable)
    return versions


if __name__ == "__main__":
    print(found().get(sys.argv[1], ""))
