"""Actions for the moment when a process forks, on systems where processes can."""

from __future__ import annotations

import os
from collections.abc import Callable


def when_forked(
    *,
    before: Callable[[], object] | None = None,
    after_in_parent: Callable[[], object] | None = None,
    after_in_child: Callable[[], object] | None = None,
) -> None:
    """Do as ``os.register_at_fork`` does; nothing where there is no such function, as on Windows."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        given = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
        register(**{name: action for name, action in given.items() if action is not None})
