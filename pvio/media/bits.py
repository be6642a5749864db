"""Numbers in the headers of coded video: single bits, and Exp-Golomb codes."""

from __future__ import annotations


class Bits:
    """Reads numbers bit by bit; behind the end there are zeros.

    Args:
        data: the bytes, without emulation prevention.
    """

    def __init__(self, data: bytes):
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    @property
    def left(self) -> int:
        """Bits that are left, below 0 behind the end."""
        return self._left

    def read(self, n: int) -> int:
        """An unsigned number of n bits."""
        self._left -= n
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & ((1 << n) - 1)

    def skip(self, n: int) -> None:
        self._left -= n

    def ue(self) -> int:
        """An unsigned Exp-Golomb code (ITU-T H.264, 9.1)."""
        n = 0
        while n < 32 and self._left > 0 and not self.read(1):
            n += 1
        return (1 << n) - 1 + self.read(n)

    def se(self) -> int:
        """A signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def without_escapes(unit: bytes) -> bytes:
    """The payload of a NAL unit, without the bytes that prevent start codes in it."""
    return unit.replace(b"\0\0\3", b"\0\0")
