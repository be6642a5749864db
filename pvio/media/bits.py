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
