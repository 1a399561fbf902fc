"""The command line: ``python -m examples.github_sync sync my-team``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main(prog_name="github-sync")
