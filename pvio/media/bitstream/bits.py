"""Read bit fields, as in the headers of coded frames."""

from __future__ import annotations


class Bits:
    """Reads numbers from the front of some bytes, most significant bit first.

    Bits after the end are zeros, so that a header can be read first and then checked once.

    Args:
        data: without emulation prevention bytes.

    Attributes:
        left: number of unread bits; negative after the end.
    """

    __slots__ = ("_value", "left")

    def __init__(self, data: bytes):
        self._value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, n: int) -> int:
        """An unsigned number of n bits."""
        self.left = left = self.left - n
        shifted = self._value >> left if left >= 0 else self._value << -left
        return shifted & ((1 << n) - 1)

    def flag(self) -> bool:
        """One bit."""
        self.left = left = self.left - 1
        return left >= 0 and self._value >> left & 1 == 1

    def skip(self, n: int) -> None:
        """Skip n bits."""
        self.left -= n

    def ue(self) -> int:
        """An unsigned Exp-Golomb code (ITU-T H.264, 9.1); also uvlc() of AV1, 4.10.3."""
        left = self.left
        rest = self._value & ((1 << left) - 1) if left > 0 else 0
        n = rest.bit_length()  # of the code and all after it, without the zeros in front
        self.left = n - 1 - (left - n)
        if rest == 0 or left - n > 32:  # no code
            self.left = -1
        return (rest >> self.left) - 1 if self.left >= 0 else 0

    def se(self) -> int:
        """A signed Exp-Golomb code (ITU-T H.264, 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def check(self) -> None:
        """Check that no bits after the end were read.

        Raises:
            EOFError: if there were.
        """
        if self.left < 0:
            raise EOFError


def without_escapes(unit: bytes) -> bytes:
    """The payload of a NAL unit without emulation prevention bytes."""
    return unit.replace(b"\0\0\3", b"\0\0")
