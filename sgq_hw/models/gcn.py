"""Graph convolutional network (Kipf & Welling, ICLR 2017).

    H = relu(A_hat X W0 + b0),  Y = A_hat H W1 + b1                  (equation 9, any depth)
    A_hat = D^-1/2 (A + I) D^-1/2                                    (section 2.2)

D is the in-degree plus one.
"""

from itertools import pairwise

import torch
from torch import Tensor

from sgq_hw.graphs import Graph
from sgq_hw.models.inputs import Inputs, Matrix, normalised_adjacency
from sgq_hw.models.network import Network, glorot
from sgq_hw.models.sparse import sparse_product


class GCN(Network):
    """The network of any depth; dropout before every layer. Biases start at zero."""

    @staticmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""
        parameters = {}
        widths = [features, *[hidden] * (layers - 1), classes]
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            parameters[f"layer{layer}/combine/weight"] = glorot(inputs, outputs)
            parameters[f"layer{layer}/bias"] = torch.zeros(outputs)
        return parameters

    @staticmethod
    def adjacency(graph: Graph) -> Matrix:
        """Return A_hat."""
        return normalised_adjacency(graph)

    def decays(self, name: str) -> bool:
        """Whether weight decay acts on a parameter: on the first layer only (section 5.2)."""
        return name.startswith("layer0/")

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [n, classes]."""
        return self.stacked(
            inputs.features, lambda layer, hidden: self._layer(layer, hidden, inputs.adjacency)
        )

    def _layer(self, layer: int, hidden: Matrix | Tensor, adjacency: Matrix) -> Tensor:
        product = self.stored(self.combined(hidden, layer), "product")
        return sparse_product(adjacency, product) + self.value(layer, "bias")
