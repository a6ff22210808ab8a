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
from sgq_hw.models.edges import Edges, edge_softmax, edge_sums, weighted_sums
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
        rows = self.stored(self.combined(hidden, layer), "product").view(-1, heads, channels)
        at_sources, at_targets = (rows * source).sum(dim=2), (rows * target).sum(dim=2)
        weights = []
        for head in range(heads):
            scores = edge_sums(at_targets[:, head], at_sources[:, head], edges)
            weights.append(edge_softmax(functional.leaky_relu(scores, SLOPE), edges))
        if self.emulate is not None:  # all heads are one tensor, [e, heads]
            together = self.emulate(torch.stack(weights, dim=1), "attention")
            weights = list(together.T.contiguous())
        sums = [
            weighted_sums(self.dropped(weights[head]), rows[:, head], edges)
            for head in range(heads)
        ]
        return torch.cat(sums, dim=1) + self.value(layer, "bias")
