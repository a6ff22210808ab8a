"""Golden function of the `feature_buffer`: where each code of a tensor lies in memory."""

import numpy as np

from sgq_hw.golden.fixed_point import IntArray


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
