"""The hash function of everything that is hashed: `hashlib` would load OpenSSL too, 3 ms and 4 MB in each process."""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # another Python than CPython
    from hashlib import blake2b

__all__ = ["blake2b"]
