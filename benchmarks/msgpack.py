"""Decode MessagePack, as far as Datadog's agent protocol uses it (the format: https://github.com/msgpack/msgpack)."""

from __future__ import annotations

from struct import Struct
from typing import Final

_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS: Final = {
    0xCA: Struct(">f"),
    0xCB: Struct(">d"),
    0xCC: Struct(">B"),
    0xCD: Struct(">H"),
    0xCE: Struct(">I"),
    0xCF: Struct(">Q"),
    0xD0: Struct(">b"),
    0xD1: Struct(">h"),
    0xD2: Struct(">i"),
    0xD3: Struct(">q"),
}
_BINARIES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_STRINGS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}


def decode(data: bytes) -> object:
    """Decode one value and all that it contains.

    Raises:
        ValueError: The bytes use an extension type, or end too early.
    """
    return _Decoder(data).value()


class _Decoder:
    """A position in the bytes, moved on by each value that is taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self) -> object:
        (first,) = self._take(1)
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first < 0xC0:
            return self._short(first)
        return self._long(first)

    def _short(self, first: int) -> object:
        if first >= 0xA0:
            return self._string(first & 0x1F)
        if first >= 0x90:
            return self._array(first & 0x0F)
        return self._map(first & 0x0F)

    def _long(self, first: int) -> object:
        if first in _STRINGS:
            return self._string(self._size(_STRINGS[first]))
        if first in _NUMBERS:
            number: object = _NUMBERS[first].unpack(self._take(_NUMBERS[first].size))[0]
            return number
        if first in _MAPS:
            return self._map(self._size(_MAPS[first]))
        if first in _ARRAYS:
            return self._array(self._size(_ARRAYS[first]))
        if first in _BINARIES:
            return self._take(self._size(_BINARIES[first]))
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        raise ValueError(f"MessagePack type {first:#x} is not decoded here")

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError(f"MessagePack ends early: {size} bytes wanted at {self._at}")
        self._at += size
        return taken

    def _size(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _string(self, size: int) -> str:
        return self._take(size).decode("utf-8", "replace")

    def _array(self, size: int) -> list[object]:
        return [self.value() for _ in range(size)]

    def _map(self, size: int) -> dict[object, object]:
        return {self.value(): self.value() for _ in range(size)}
