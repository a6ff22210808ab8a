"""Graph convolutional network (Kipf & Welling, ICLR 2017).

    H = relu(A_hat X W0 + b0),  Y = A_hat H W1 + b1                  (equation 9, any depth)
    A_hat = D^-1/2 (A + I) D^-1/2                                    (section 2.2)

D is the in-degree plus one. A self loop that the graph stores is that one: it counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from sgq_hw.graphs import Graph, input_row_factors, with_self_loops
from sgq_hw.models.sparse import drop_values, sparse_product

Array = npt.NDArray[np.float32]
Matrix = sparse.csr_array[np.float32]


@dataclass(frozen=True, eq=False)
class GCNInputs:
    """What the network reads: X float32 [n, f], rows summing to one, and A_hat float32 [n, n]."""

    features: Matrix
    adjacency: Matrix


def gcn_inputs(graph: Graph) -> GCNInputs:
    """Return the row-normalised features and the normalised adjacency of `graph`."""
    n = graph.num_nodes
    indptr, indices = with_self_loops(graph)
    degree = np.diff(indptr)  # in-degree plus one, the self loop counted once
    scale = degree**-0.5
    values = np.repeat(scale, degree) * scale[indices]
    lengths = np.diff(graph.x_indptr)
    factors = np.repeat(input_row_factors(graph), lengths)
    raw = 1.0 if graph.x_values is None else graph.x_values
    return GCNInputs(
        features=_matrix(raw * factors, graph.x_indices, graph.x_indptr, (n, graph.num_features)),
        adjacency=_matrix(values, indices, indptr, (n, n)),
    )


def _matrix(
    values: npt.NDArray[np.float64],
    indices: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    shape: tuple[int, int],
) -> Matrix:
    # int32 indices halve the traffic of the sparse products.
    parts = (values.astype(np.float32), indices.astype(np.int32), indptr.astype(np.int32))
    return sparse.csr_array(parts, shape=shape)


class GCN(nn.Module):
    """The network: `sizes` are features, hidden widths, classes; dropout before every layer.

    Weights are [in, out], uniform as in Glorot & Bengio 2010; biases start at zero.
    """

    def __init__(self, sizes: Sequence[int], dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(s)) for s in shapes)
        self.biases = nn.ParameterList(torch.zeros(outputs) for _, outputs in shapes)

    def forward(self, inputs: GCNInputs) -> Tensor:
        """Return the logits, float32 [n, classes]."""
        hidden = sparse_product(self._drop_values(inputs.features), self.weights[0])
        for index, bias in enumerate(self.biases):
            if index > 0:
                dropped = functional.dropout(functional.relu(hidden), self.dropout, self.training)
                hidden = dropped @ self.weights[index]
            hidden = sparse_product(inputs.adjacency, hidden) + bias
        return hidden

    def arrays(self) -> tuple[list[Array], list[Array]]:
        """Return copies of the weights, float32 [in, out], and the biases, float32 [out]."""
        return (
            [weight.detach().numpy().copy() for weight in self.weights],
            [bias.detach().numpy().copy() for bias in self.biases],
        )

    @classmethod
    def from_arrays(
        cls, weights: Sequence[Array], biases: Sequence[Array], dropout: float = 0.5
    ) -> Self:
        """Return a network that holds copies of these arrays, as `arrays` returns them."""
        network = cls([weights[0].shape[0], *(bias.size for bias in biases)], dropout)
        with torch.no_grad():
            for parameter, array in zip(
                [*network.weights, *network.biases], [*weights, *biases], strict=True
            ):
                parameter.copy_(torch.tensor(array))
        return network

    def _drop_values(self, features: Matrix) -> Matrix:
        """Return `features` with dropout on the stored values; a zero stays zero either way."""
        if not self.training or self.dropout == 0:
            return features
        return drop_values(features, self.dropout)
