"""The quick test that a text holds no secret, which the C extension brings.

It stands apart from the patterns of secrets: a process that redacts nothing, such as a shipper, does not load them.
"""

from __future__ import annotations

from collections.abc import Callable

quick_test: Callable[[str], bool] | None = None
"""Tells in no time that a text holds no secret; None where there is no C extension."""
