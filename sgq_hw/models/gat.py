"""Graph attention network (Velickovic et al., ICLR 2018).

    h = x W,  e_ij = leaky_0.2(target . h_i + source . h_j)          (equations 1 to 3)
    y_i = sum_j softmax_j(e_ij) h_j + b, j over N(i) and i           (equation 4)

every head alone; hidden layers concatenate their heads (equation 5) and end in ELU, the last layer
has one head. `target` and `source` are the halves of the paper's vector a.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from sgq_hw.graphs import Graph
from sgq_hw.models.edges import Edges, edge_softmax, leaky_edge_sums, weighted_sums
from sgq_hw.models.inputs import Inputs, Matrix, summed_adjacency
from sgq_hw.models.network import Network, glorot

HEADS: Final = 8
SLOPE: Final = 0.2


class GAT(Network):
    """The network of any depth; dropout before every layer and on the attention weights.

    `hidden` counts the channels of one head. Biases start at zero.
    """

    @staticmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""
        parameters: dict[str, Tensor] = {}
        inputs = features
        for layer in range(layers):
            heads, channels = (1, classes) if layer == layers - 1 else (HEADS, hidden)
            parameters |= {
                f"layer{layer}/combine/weight": glorot(inputs, heads * channels),
                f"layer{layer}/source": glorot(heads, channels),
                f"layer{layer}/target": glorot(heads, channels),
                f"layer{layer}/bias": torch.zeros(heads * channels),
            }
            inputs = heads * channels
        return parameters

    @staticmethod
    def adjacency(graph: Graph) -> Matrix:
        """Return the edges with self loops."""
        return summed_adjacency(graph)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [n, classes]."""
        edges = Edges.of(inputs.adjacency)
        return self.stacked(
            inputs.features, lambda layer, hidden: self._layer(layer, hidden, edges), functional.elu
        )

    def _layer(self, layer: int, hidden: Matrix | Tensor, edges: Edges) -> Tensor:
        source, target = self.value(layer, "source"), self.value(layer, "target")
        heads, channels = source.shape
        rows = self.stored(self.combined(hidden, layer), "product")
        by_head = rows.view(-1, heads, channels)
        at_sources, at_targets = (by_head * source).sum(dim=2), (by_head * target).sum(dim=2)
        scores = leaky_edge_sums(at_targets, at_sources, SLOPE, edges)
        weights = self.stored(edge_softmax(scores, edges), "attention")
        dropout = self.dropout if self.training else 0.0
        return weighted_sums(weights, rows, edges, dropout) + self.value(layer, "bias")
