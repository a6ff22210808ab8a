"""Attention-based graph neural network (Thekumparampil, Wang, Oh & Li, arXiv:1803.03735, 2018).

    h0 = relu(x W0 + b0),  y = h2 W3 + b3
    h'_i = sum_j softmax_j(beta cos(h_i, h_j)) h_j,  j over N(i) and i

Two propagations; the beta of the first is 1, that of the second is trained. A zero row has cosine
0 with every row.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sgq_hw.graphs import Graph
from sgq_hw.models.edges import Edges, edge_dots, edge_softmax, weighted_sums
from sgq_hw.models.inputs import Inputs, Matrix, summed_adjacency
from sgq_hw.models.network import Network, glorot


class AGNN(Network):
    """The network: linear, propagation, propagation, linear; dropout before the linear layers."""

    FIXED: ClassVar[frozenset[str]] = frozenset({"layer1/beta"})

    @staticmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""
        parameters = {
            "layer0/combine/weight": glorot(features, hidden),
            "layer0/bias": torch.zeros(hidden),
        }
        parameters |= {f"layer{layer}/beta": torch.ones(1) for layer in range(1, layers - 1)}
        return parameters | {
            f"layer{layers - 1}/combine/weight": glorot(hidden, classes),
            f"layer{layers - 1}/bias": torch.zeros(classes),
        }

    @staticmethod
    def adjacency(graph: Graph) -> Matrix:
        """Return the edges with self loops."""
        return summed_adjacency(graph)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [n, classes]."""
        edges = Edges.of(inputs.adjacency)
        last = self.num_layers - 1
        hidden = self.combined(self.dropped_features(inputs.features), 0) + self.value(0, "bias")
        hidden = functional.relu(hidden)
        for layer in range(1, last):
            hidden = self._propagated(layer, hidden, edges)
        return self.combined(self.dropped(hidden), last) + self.value(last, "bias")

    def _propagated(self, layer: int, hidden: Tensor, edges: Edges) -> Tensor:
        hidden = self.stored(hidden, "input")
        norms = torch.linalg.vector_norm(hidden, dim=1, keepdim=True)
        # Divided by a tiny number instead, a zero row would have a huge gradient.
        directions = hidden / torch.where(norms > 0, norms, 1.0)
        scores = self.value(layer, "beta") * edge_dots(directions, edges)
        weights = self.stored(edge_softmax(scores, edges), "attention")
        return weighted_sums(weights, hidden, edges)
