"""``python -m otelsync.cli`` is ``otelsync``."""

from otelsync.cli import main

main(prog_name="otelsync")
