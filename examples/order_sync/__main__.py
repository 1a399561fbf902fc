"""Run the command line: ``python -m examples.order_sync``."""

import sys

from .cli import main

sys.exit(main())
