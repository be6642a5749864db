"""Reading numbers of a few bits each, as the headers of coded pictures have them."""

from __future__ import annotations


class BitReader:
    """Reads bits from the front of some bytes, most significant bit first.

    Args:
        data: what is read.

    Raises:
        EOFError: by all methods, when the data end before the number.
    """

    def __init__(self, data: bytes):
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def bits(self, n: int) -> int:
        """A number of `n` bits."""
        self._left -= n
        if self._left < 0:
            raise EOFError
        return (self._value >> self._left) & ((1 << n) - 1)

    def flag(self) -> bool:
        return self.bits(1) == 1

    def skip(self, n: int) -> None:
        self.bits(n)

    def exp_golomb(self) -> int:
        """ue(v) of ITU-T H.264, 9.1; also uvlc() of AV1, 4.10.3."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > 32:
                raise EOFError
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed_exp_golomb(self) -> int:
        """se(v) of ITU-T H.264, 9.1.1."""
        number = self.exp_golomb()
        return (number + 1) // 2 if number % 2 else -number // 2


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
