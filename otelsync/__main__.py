"""``python -m otelsync`` is ``otelsync``."""

from otelsync.cli import main

if __name__ == "__main__":
    main(prog_name="otelsync")
