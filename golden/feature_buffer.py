"""Golden functions of the `feature_buffer`: where each code of a tensor lies in memory.

With degree windows the nodes of a bucket fill consecutive places, and codes are cut into slices of
bits that have rows for some buckets only. Buckets are counted by their position in that order.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sgq_hw.golden.fixed_point import IntArray


class SliceShape(Protocol):
    """Bits [low, high) of the codes at positions [first, end), in `rows` rows of each bank."""

    @property
    def low(self) -> int:
        """First bit."""

    @property
    def high(self) -> int:
        """Bit after the last one."""

    @property
    def first(self) -> int:
        """First position."""

    @property
    def end(self) -> int:
        """Position after the last one."""

    @property
    def rows(self) -> int:
        """Rows of a bank, for each chunk."""


def feature_buffer(codes: IntArray, lanes: int, rows: int) -> IntArray:
    """Lay a tensor out as memory words: word `chunk * rows + node` holds `lanes` channels.

    Channels beyond the tensor's width and rows beyond its height are zero.

    Args:
        codes: int64 [nodes, channels].
        lanes: Channels held by one word.
        rows: Node capacity of the memory, at least `nodes`.

    Returns:
        int64 [chunks * rows, lanes] with `chunks = ceil(channels / lanes)`.
    """
    nodes, channels = codes.shape
    chunks = -(-channels // lanes)
    words = np.zeros((rows, chunks * lanes), dtype=np.int64)
    words[:nodes, :channels] = codes
    return words.reshape(rows, chunks, lanes).transpose(1, 0, 2).reshape(chunks * rows, lanes)


def positions(places: IntArray, bounds: Sequence[int]) -> IntArray:
    """Return the position of each place: int64, the number of `bounds` not beyond it.

    Args:
        places: int64, any shape.
        bounds: First places of positions 1, 2, ..; they rise, equal ones leave a position empty.
    """
    return np.searchsorted(np.asarray(bounds, np.int64), places, side="right")


def _rows_of(
    part: SliceShape, places: IntArray, pes: int, bounds: Sequence[int]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the places that a slice holds, with the bank and the row there of each."""
    position = positions(places, bounds)
    held = np.flatnonzero((part.first <= position) & (position < part.end))
    pe, row = places[held] % pes, places[held] // pes
    begin = bounds[part.first - 1] if part.first else 0
    if pes == 1:
        return held, np.zeros_like(held), row - begin
    return held, 2 * pe + row % 2, row // 2 - begin // (2 * pes)


def feature_slices(
    codes: IntArray,
    lanes: int,
    pes: int,
    places: IntArray,
    bounds: Sequence[int],
    slices: Sequence[SliceShape],
) -> list[IntArray]:
    """Lay a tensor out in slices.

    Place p is row `p // pes` of processing element `p % pes`. Row r of element e lies in bank
    `2 e + r % 2` (all rows in one bank if there is one element), and there in row `r // 2`. In a
    slice, word `chunk * rows + row - offset` holds it; `offset` is the row of the place at which
    the slice's first position begins.

    Args:
        codes: int64 [nodes, channels], as stored.
        lanes: Channels held by one word.
        pes: Processing elements.
        places: Place of each node, int64 [nodes].
        bounds: First places of positions 1, 2, ..
        slices: Slices of the region.

    Returns:
        For each slice int64 [banks, chunks * rows, lanes]: the bits of the slice as an unsigned
        number, -1 where no node lies. Channels beyond the tensor's width are zero.
    """
    nodes, channels = codes.shape
    chunks = -(-channels // lanes)
    banks = 1 if pes == 1 else 2 * pes
    padded = np.zeros((nodes, chunks, lanes), np.int64)
    padded.reshape(nodes, -1)[:, :channels] = codes
    found = []
    for part in slices:
        held, bank, row = _rows_of(part, places, pes, bounds)
        words = np.full((banks, chunks, part.rows, lanes), -1, np.int64)
        words[bank, :, row] = padded[held] >> part.low & (1 << (part.high - part.low)) - 1
        found.append(words.reshape(banks, -1, lanes))
    return found


def read_slices(
    stored: Sequence[IntArray],
    channels: int,
    pes: int,
    places: IntArray,
    bounds: Sequence[int],
    slices: Sequence[SliceShape],
    exponents: Sequence[int],
    signed: bool,
) -> IntArray:
    """Read a tensor back as its consumer sees it.

    The last slice that holds a node has the top bit of its codes, which is the sign if they have
    one.

    Args:
        stored: What `feature_slices` returns.
        channels: Channels of the tensor.
        pes: Processing elements.
        places: Place of each node, int64 [nodes].
        bounds: First places of positions 1, 2, ..
        slices: Slices of the region.
        exponents: Exponent of each position.
        signed: Whether stored codes are two's complement.

    Returns:
        Words `code << exponent`, int64 [nodes, channels].
    """
    codes = np.zeros((places.size, channels), np.int64)
    for part, words in zip(slices, stored, strict=True):
        held, bank, row = _rows_of(part, places, pes, bounds)
        split = words.reshape(len(words), -1, part.rows, words.shape[2])
        bits = split[bank, :, row].reshape(held.size, split.shape[1] * split.shape[3])[:, :channels]
        # The sign of a slice reaches above it; a higher slice replaces it.
        sign = bits >> (part.high - part.low - 1) & 1 if signed else np.zeros_like(bits)
        below = codes[held] & (1 << part.low) - 1
        codes[held] = below | bits << part.low | -sign << part.high
    shift = np.asarray(exponents, np.int64)[positions(places, bounds)]
    return np.asarray(codes << shift[:, np.newaxis], np.int64)
