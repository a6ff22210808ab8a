"""The documented `.npz` form of a node set: its features and its splits, in all their variants."""

from typing import Final

import numpy as np

from sgq_hw.fields import BoolArray, Fields, FloatArray, IntArray

MASKS: Final = ("train_mask", "val_mask", "test_mask")


def read_features(
    fields: Fields, rows: int, columns: int
) -> tuple[IntArray, IntArray, FloatArray | None]:
    """Return (x_indptr, x_indices, x_values) without explicit zeros; None for all ones."""
    if "x_bits" in fields:
        packed = fields.array("x_bits", "u", (rows, -(-columns // 8)))
        if packed.dtype != np.uint8:
            fields.fail("x_bits", f"wrong type {packed.dtype}")
        bits = np.unpackbits(packed, axis=1)
        if bits[:, columns:].any():
            fields.fail("x_bits", f"a bit is set beyond the {columns} features of x_shape")
        row_of, indices = np.nonzero(bits)
        return row_starts(np.bincount(row_of, minlength=rows)), indices.astype(np.int64), None
    indptr, indices = fields.csr("x_indptr", "x_indices", rows, columns)
    if "x_data" not in fields:
        return indptr, indices, None
    values = fields.reals("x_data", (indices.size,))
    kept = values != 0
    lengths = np.diff(np.concatenate([[0], np.cumsum(kept)])[indptr])
    values = values[kept]
    return row_starts(lengths), indices[kept], None if np.all(values == 1) else values


def row_starts(lengths: IntArray) -> IntArray:
    """Return the row starts of rows of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def read_masks(
    fields: Fields, n: int, split: int, y: IntArray | None
) -> tuple[BoolArray | None, BoolArray | None, BoolArray | None]:
    """Return the masks of `MASKS`: stored ones, or the random split of that number.

    In a random split the test nodes are the rest of the largest connected component `lcc` (of
    the graph, without that field), as in Shchur et al., "Pitfalls of GNN evaluation", 2018.
    """
    if "split_train" not in fields:
        if split != 0:
            fields.fail("split_train", f"missing, so there is no split {split}")
        stored = [fields.booleans(mask, n) if mask in fields else None for mask in MASKS]
        return stored[0], stored[1], stored[2]
    train_nodes = fields.integers("split_train", (None, None), 0, n - 1)
    val_nodes = fields.integers("split_val", (train_nodes.shape[0], None), 0, n - 1)
    if not 0 <= split < train_nodes.shape[0]:
        fields.fail("split_train", f"there is no split {split} of 0..{train_nodes.shape[0] - 1}")
    train, val = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    train[train_nodes[split]] = True
    val[val_nodes[split]] = True
    if np.any(train & val):
        fields.fail("split_val", f"shares nodes with split_train in split {split}")
    test = ~train & ~val
    if "lcc" in fields:
        test &= fields.booleans("lcc", n)
    if y is not None:
        test &= y >= 0
    return train, val, test
