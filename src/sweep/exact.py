"""Sums that do not depend on the order of their terms, to the last bit."""

from __future__ import annotations

from typing import Self

import numpy as np

WORDS, BITS = 3, 32
MOST = 2**30  # terms: a 64-bit word holds 2^31 terms of 32 bits


class ExactSum:
    """The sum of arrays of numbers between 0 and 1 in fixed point.

    Floating-point addition is not associative, so sums over shards would depend on how many
    shards there were. Here each number is cut into three 32-bit pieces (resolution 2^-96) that are
    summed as integers: any order, any grouping and any number of merges give the same bits.

    words: int64 (3, *shape), most significant first; count: how many arrays were added.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.words = np.zeros((WORDS, *shape), dtype=np.int64)
        self.count = 0

    def empty_like(self) -> Self:
        """Return the sum of nothing, in the same shape."""
        return type(self)(self.words.shape[1:])

    def add(self, values: np.ndarray) -> None:
        """Add ``values`` (N, *shape), float64 between 0 and 1, over their first axis.

        Raises:
            ValueError: a value is outside 0 … 1 or not finite, the shape differs, or more than
                2^30 arrays were added.
        """
        rest = np.array(values, dtype=np.float64)
        if rest.size and not (rest.min() >= 0 and rest.max() <= 1):
            raise ValueError("an exact sum takes numbers between 0 and 1")
        self._add(rest)

    def merge(self, other: Self) -> None:
        """Add another sum of the same shape to this one."""
        if other.words.shape != self.words.shape:
            raise ValueError(f"cannot merge {other.words.shape} into {self.words.shape}")
        self._grow(other.count)
        self.words += other.words

    def value(self) -> np.ndarray:
        """Return the sum as float64 of ``shape``, right to within one rounding a word."""
        return _total(_carried(self.words))

    def state(self) -> np.ndarray:
        """Return the words as one array int64 (WORDS, *shape)."""
        return self.words.copy()

    def from_state(self, words: np.ndarray, count: int) -> Self:
        """Return a sum of the same kind that holds what :meth:`state` gave, of so many arrays."""
        found = self.empty_like()
        found.words, found.count = words.astype(np.int64), count
        return found

    def _add(self, rest: np.ndarray, sign: np.ndarray | int = 1) -> None:
        """Add numbers between 0 and 1 with their signs; ``rest`` is used up."""
        if rest.shape[1:] != self.words.shape[1:]:
            raise ValueError(f"values of shape {rest.shape[1:]} into {self.words.shape[1:]}")
        self._grow(len(rest))
        for word in range(WORDS):
            rest *= 2.0**BITS
            whole = np.floor(rest) if word < WORDS - 1 else np.rint(rest)
            rest -= whole
            self.words[word] += (sign * whole.astype(np.int64)).sum(axis=0)

    def _grow(self, terms: int) -> None:
        if self.count + terms > MOST:
            raise ValueError(f"an exact sum holds at most {MOST} terms")
        self.count += terms


class SignedSum(ExactSum):
    """The sum of arrays of numbers between −``most`` and ``most``, as exact as :class:`ExactSum`.

    most: a power of two; the resolution is 2^-96 · most.
    """

    def __init__(self, shape: tuple[int, ...], most: float = 2.0**24) -> None:
        super().__init__(shape)
        self.most = most

    def empty_like(self) -> Self:
        """Return the sum of nothing, in the same shape."""
        return type(self)(self.words.shape[1:], self.most)

    def add(self, values: np.ndarray) -> None:
        """Add ``values`` (N, *shape), float64, over their first axis.

        Raises:
            ValueError: as :meth:`ExactSum.add`; a value is beyond ±``most`` or not finite.
        """
        whole = np.asarray(values, dtype=np.float64) / self.most
        if whole.size and not np.abs(whole).max() <= 1:
            raise ValueError(f"an exact sum of signed numbers takes them within ±{self.most:g}")
        self._add(np.abs(whole), np.sign(whole).astype(np.int64))

    def value(self) -> np.ndarray:
        """Return the sum as float64 of ``shape``."""
        below = _carried(self.words)[0] < 0  # what is below 0 is turned round: no digits are lost
        magnitude = _total(_carried(np.where(below, -self.words, self.words)))
        return np.where(below, -magnitude, magnitude) * self.most


def _carried(words: np.ndarray) -> np.ndarray:
    """Return the words with every piece but the first between 0 and 2^32."""
    words = words.copy()
    for word in range(WORDS - 1, 0, -1):
        words[word - 1] += words[word] >> BITS
        words[word] &= 2**BITS - 1
    return words


def _total(words: np.ndarray) -> np.ndarray:
    total = np.zeros(words.shape[1:])
    for word in range(WORDS - 1, -1, -1):
        total = (total + words[word]) * 2.0**-BITS
    return total
