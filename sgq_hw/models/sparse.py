"""Constant sparse matrices times dense tensors, with gradients.

Results are those of SciPy's products to the bit, which are slower; PyTorch's COO tensors are ten
times slower still.
"""

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sgq_hw.models.kernels import product, selected, transposed_product

Matrix = sparse.csr_array[Any]


class SparseProduct(torch.autograd.Function):
    """`matrix @ dense`, differentiated with respect to `dense` [columns, channels]."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Matrix) -> Tensor:
        """Return the product [rows, channels], in the precision of the operands."""
        ctx.matrix = matrix
        values = np.ascontiguousarray(dense.detach().numpy())
        return torch.from_numpy(product(matrix.indptr, matrix.indices, matrix.data, values))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of `dense`."""
        matrix, values = ctx.matrix, np.ascontiguousarray(grads[0].numpy())
        parts = (matrix.indptr, matrix.indices, matrix.data)
        return torch.from_numpy(transposed_product(*parts, values, matrix.shape[1])), None


def sparse_product(matrix: Matrix, dense: Tensor) -> Tensor:
    """Return `matrix @ dense`, differentiable in `dense`."""
    product: Tensor = SparseProduct.apply(dense, matrix)  # type: ignore[no-untyped-call]
    return product


def drop_values(
    matrix: Matrix, probability: float, generator: torch.Generator | None = None
) -> Matrix:
    """Return `matrix` with dropout on the stored values; what is dropped is no longer stored."""
    # rand is twice as fast as bernoulli on a CPU, and this is a long step on Amazon-Computers.
    kept = (torch.rand(matrix.nnz, generator=generator) >= probability).numpy()
    parts = selected(matrix.indptr, matrix.indices, matrix.data, kept, 1 / (1 - probability))
    indptr, indices, values = parts
    return sparse.csr_array((values, indices, indptr), shape=matrix.shape)
