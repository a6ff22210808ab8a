"""GraphSAGE with the mean aggregator (Hamilton, Ying & Leskovec, NeurIPS 2017).

    h_i' = x_i W_root + mean_{j in N(i)} x_j W_neighbour + b         (algorithm 1, line 5)

The two weights are the blocks of the paper's one on the concatenation. All neighbours count, none
are sampled; no self loop is added; the mean over no neighbours is 0. ReLU between layers, no
normalisation of the rows.
"""

from itertools import pairwise

import torch
from torch import Tensor

from sgq_hw.graphs import Graph
from sgq_hw.models.inputs import Inputs, Matrix, mean_adjacency
from sgq_hw.models.network import Network, glorot
from sgq_hw.models.sparse import sparse_product


class SAGE(Network):
    """The network of any depth; dropout before every layer. Biases start at zero."""

    @staticmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""
        parameters = {}
        widths = [features, *[hidden] * (layers - 1), classes]
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            parameters[f"layer{layer}/neighbour/weight"] = glorot(inputs, outputs)
            parameters[f"layer{layer}/root/weight"] = glorot(inputs, outputs)
            parameters[f"layer{layer}/bias"] = torch.zeros(outputs)
        return parameters

    @staticmethod
    def adjacency(graph: Graph) -> Matrix:
        """Return the mean over neighbours."""
        return mean_adjacency(graph)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [n, classes]."""
        return self.stacked(
            inputs.features, lambda layer, hidden: self._layer(layer, hidden, inputs.adjacency)
        )

    def _layer(self, layer: int, hidden: Matrix | Tensor, adjacency: Matrix) -> Tensor:
        neighbours = self.stored(self.combined(hidden, layer, "neighbour"), "product")
        neighbours = sparse_product(adjacency, neighbours)
        return self.combined(hidden, layer, "root") + neighbours + self.value(layer, "bias")
