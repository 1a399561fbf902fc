"""A function of another library is replaced by ours, and put back."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any


class Patch:
    """One attribute of a class or module, replaced while it is switched on.

    Args:
        owner: The class or module.
        name: The attribute; it stands in `owner` itself.

    Somebody else may replace it again after us. Then it cannot be put back without undoing theirs: ours stays in
    place, and looks at :attr:`is_on`.
    """

    def __init__(self, owner: Any, name: str) -> None:
        self._owner = owner
        self._name = name
        self.before: Any = vars(owner)[name]
        """The attribute's value before."""
        self._ours: Any = self.before
        self.is_on = False
        """True if ours is to do anything beyond calling what it replaced."""

    @property
    def current(self) -> Any:
        """The attribute's value now."""
        return vars(self._owner).get(self._name)

    def put(self, replacement: Any) -> None:
        """Put `replacement` in the place of what is there."""
        self._ours = replacement
        self.is_on = True
        setattr(self._owner, self._name, replacement)

    def undo(self) -> None:
        """Put back the very object that was there."""
        self.is_on = False
        if self.current is self._ours:
            setattr(self._owner, self._name, self.before)


def as_part_of(module: ModuleType, function: FunctionType) -> FunctionType:
    """Return the same function in a module of that name.

    Where structlog looks for the line of the program that logs, it passes over frames by the name of their module: over
    its own and, in a formatter, over those of logging. Source: ``structlog._frames._find_first_app_frame_and_name``.
    """
    names = {**function.__globals__, "__name__": module.__name__}
    same = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    same.__kwdefaults__ = function.__kwdefaults__
    same.__qualname__ = function.__qualname__
    return same
