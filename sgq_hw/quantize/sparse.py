"""Constant sparse matrices times dense tensors in torch, with exact float64 sums."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class _Multiply(torch.autograd.Function):
    """`matrix @ dense`; the gradient reaches only the dense operand."""

    @staticmethod
    def forward(ctx: Any, dense: torch.Tensor, matrix: "SparseMatrix") -> torch.Tensor:
        ctx.matrix = matrix
        return matrix.forward_tensor @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.matrix.backward_tensor @ gradients[0], None


class SparseMatrix:
    """A CSR matrix that keeps its transpose, so that gradients need no sorting.

    Args:
        indptr, indices: CSR pattern, int64.
        values: float64 [non-zeros].
        columns: Number of columns.
    """

    def __init__(
        self,
        indptr: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        columns: int,
    ) -> None:
        rows = len(indptr) - 1
        self._shape = (rows, columns)
        self._indptr = torch.from_numpy(indptr)
        self._indices = torch.from_numpy(indices)
        self._values = torch.from_numpy(values)
        order = np.argsort(indices, kind="stable")
        row_of = np.repeat(np.arange(rows), np.diff(indptr))
        self._order = torch.from_numpy(order)
        self._t_indptr = torch.from_numpy(
            np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=columns))])
        )
        self._t_indices = torch.from_numpy(row_of[order])
        self._set(self._values)

    def _set(self, values: torch.Tensor) -> None:
        self.forward_tensor = torch.sparse_csr_tensor(
            self._indptr, self._indices, values, self._shape, check_invariants=False
        )
        self.backward_tensor = torch.sparse_csr_tensor(
            self._t_indptr,
            self._t_indices,
            values[self._order],
            self._shape[::-1],
            check_invariants=False,
        )

    def dropout(self, probability: float, generator: torch.Generator) -> None:
        """Zero each stored value with `probability` and scale the others up, until `restore`."""
        keep = torch.rand(len(self._values), generator=generator) >= probability
        self._set(self._values * keep / (1.0 - probability))

    def restore(self) -> None:
        """Undo `dropout`."""
        self._set(self._values)

    def __matmul__(self, dense: torch.Tensor) -> torch.Tensor:
        """Return `self @ dense`, differentiable in `dense`."""
        result: torch.Tensor = _Multiply.apply(dense, self)
        return result
