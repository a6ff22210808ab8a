"""Reading the named arrays of a file, each with its checks and its one-line refusal."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Node, feature and edge counts stay below 2**31, so int32 indices always suffice downstream.
MAX_COUNT = 2**31 - 1


class Fields:
    """Arrays by name, from `where` (a file or another origin that error messages name).

    Every method raises InputError as `where: field: reason` when the field is missing or wrong.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], where: str) -> None:
        self.arrays = arrays
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def fail(self, name: str, reason: str) -> NoReturn:
        """Refuse field `name`, in one line even where the file's own words hold line ends."""
        raise InputError(" ".join(f"{self.where}: {name}: {reason}".splitlines()))

    def only(self, names: Iterable[str]) -> None:
        """Refuse any field that is not one of `names`."""
        unknown = sorted(set(self.arrays) - set(names))
        if unknown:
            self.fail(unknown[0], "unknown field")

    def array(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
        """Return field `name` as stored; `kinds` are NumPy dtype kinds, None is any length."""
        if name not in self.arrays:
            self.fail(name, "missing")
        array = self.arrays[name]
        if array.dtype.kind not in kinds:
            self.fail(name, f"wrong type {array.dtype}")
        matches = len(array.shape) == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if not matches:
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            self.fail(name, f"shape {list(array.shape)}, expected [{wanted}]")
        return array

    def integers(
        self, name: str, shape: tuple[int | None, ...], low: int, high: int = MAX_COUNT
    ) -> IntArray:
        """Return an integer field as int64, every value in low..high."""
        array = self.array(name, "iu", shape)
        # The range is tested before the cast: a uint64 above 2**63 would turn negative.
        if array.size and (int(array.min()) < low or int(array.max()) > high):
            self.fail(name, f"values {array.min()}..{array.max()} are not all in {low}..{high}")
        return array.astype(np.int64)

    def reals(self, name: str, shape: tuple[int | None, ...]) -> FloatArray:
        """Return a numeric field as float64, every value finite in float32."""
        array = self.array(name, "iuf", shape)
        if array.size and not np.abs(array).max() <= np.finfo(np.float32).max:
            self.fail(name, "holds NaN, infinity or values beyond float32")
        return array.astype(np.float64)

    def booleans(self, name: str, length: int) -> BoolArray:
        """Return a one-dimensional boolean field."""
        return self.array(name, "b", (length,)).astype(np.bool_)

    def text(self, name: str) -> str:
        """Return a uint8 field that holds one line of UTF-8."""
        array = self.array(name, "u", (None,))
        if array.dtype != np.uint8:
            self.fail(name, f"wrong type {array.dtype}")
        try:
            text = array.tobytes().decode("utf-8")
        except UnicodeDecodeError:
            self.fail(name, "not UTF-8 text")
        if not text.isprintable():
            self.fail(name, "holds control characters")
        return text

    def csr(
        self, indptr_name: str, indices_name: str, rows: int, columns: int, *, ordered: bool = True
    ) -> tuple[IntArray, IntArray]:
        """Return (indptr int64 [rows + 1], indices int64 [nnz]) of a sparse [rows, columns] matrix.

        Where `ordered`, columns must ascend strictly in every row, which excludes duplicates.
        """
        indptr = self.integers(indptr_name, (rows + 1,), 0)
        indices = self.integers(indices_name, (None,), 0, columns - 1)
        if indptr[0] != 0:
            self.fail(indptr_name, "does not start at 0")
        if np.any(indptr[1:] < indptr[:-1]):
            row = int(np.argmax(indptr[1:] < indptr[:-1]))
            self.fail(indptr_name, f"decreases after row {row}")
        if indptr[-1] != indices.size:
            self.fail(indptr_name, f"ends at {indptr[-1]}, but {indices_name} holds {indices.size}")
        if not ordered:
            return indptr, indices
        row_of = np.repeat(np.arange(rows), np.diff(indptr))
        bad = (row_of[1:] == row_of[:-1]) & (indices[1:] <= indices[:-1])
        if np.any(bad):
            first = int(np.argmax(bad))
            repeats = indices[first] == indices[first + 1]
            what = f"column {indices[first]} repeats" if repeats else "columns do not ascend"
            self.fail(indices_name, f"{what} in row {row_of[first]}")
        return indptr, indices


def utf8_array(text: str) -> npt.NDArray[np.uint8]:
    """Return `text` as the uint8 array that `Fields.text` reads."""
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def compact_integers(array: IntArray) -> npt.NDArray[Any]:
    """Return the same values in the smallest integer type that holds them.

    Unsigned types are used unless a value is negative.
    """
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    signed, unsigned = ("int8", "int16", "int32"), ("uint8", "uint16", "uint32")
    for name in signed if low < 0 else unsigned:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return array.astype(name)
    return array
