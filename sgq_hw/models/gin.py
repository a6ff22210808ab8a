"""Graph isomorphism network (Xu, Hu, Leskovec & Jegelka, ICLR 2019), eps = 0.

    h_i' = relu((x_i + sum_{j in N(i)} x_j) W1 + b1) W2 + b2         (equation 4.1)

ReLU between layers. `GIN` classifies nodes. `GraphGIN` classifies graphs: ReLU after every layer,
the sum over a graph's nodes, a linear layer (section 4.2; the paper also reads out the earlier
layers).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from sgq_hw.graphs import Graph
from sgq_hw.models.inputs import Array, Inputs, Matrix, summed_adjacency
from sgq_hw.models.network import Network, glorot
from sgq_hw.models.sparse import sparse_product


def _initial_layer(layer: int, inputs: int, hidden: int, outputs: int) -> dict[str, Tensor]:
    return {
        f"layer{layer}/combine/weight": glorot(inputs, hidden),
        f"layer{layer}/combine/bias": torch.zeros(hidden),
        f"layer{layer}/mlp/weight": glorot(hidden, outputs),
        f"layer{layer}/mlp/bias": torch.zeros(outputs),
    }


class GIN(Network):
    """Node classifier of any depth; dropout before every layer. Biases start at zero."""

    @staticmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""
        parameters: dict[str, Tensor] = {}
        for layer in range(layers):
            inputs = features if layer == 0 else hidden
            outputs = classes if layer == layers - 1 else hidden
            parameters |= _initial_layer(layer, inputs, hidden, outputs)
        return parameters

    @staticmethod
    def adjacency(graph: Graph) -> Matrix:
        """Return the sum over a node and its neighbours."""
        return summed_adjacency(graph)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [n, classes]."""
        return self.stacked(
            inputs.features, lambda layer, hidden: self._layer(layer, hidden, inputs.adjacency)
        )

    def _layer(self, layer: int, hidden: Matrix | Tensor, adjacency: Matrix) -> Tensor:
        product = self.stored(self.combined(hidden, layer), "product")
        summed = sparse_product(adjacency, product)
        summed = self._normalised(layer, "combine", summed + self.value(layer, "combine/bias"))
        output = self.combined(functional.relu(summed), layer, "mlp")
        return self._normalised(layer, "mlp", output + self.value(layer, "mlp/bias"))

    def _normalised(self, layer: int, part: str, values: Tensor) -> Tensor:
        """Return `values` as they are; networks in training may normalise them here."""
        return values


class GraphGIN(GIN):
    """Graph classifier: all layers but the last are GIN's; dropout before the last one only."""

    @staticmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""
        parameters = GIN.initial(features, hidden, hidden, layers - 1)
        parameters[f"layer{layers - 1}/combine/weight"] = glorot(hidden, classes)
        parameters[f"layer{layers - 1}/bias"] = torch.zeros(classes)
        return parameters

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [graphs, classes]."""
        assert inputs.pooling is not None
        last = self.num_layers - 1
        hidden: Matrix | Tensor = inputs.features
        for layer in range(last):
            hidden = functional.relu(self._layer(layer, hidden, inputs.adjacency))
        assert isinstance(hidden, Tensor)
        pooled = sparse_product(inputs.pooling, self.stored(hidden, "input"))
        return self.combined(self.dropped(pooled), last) + self.value(last, "bias")


class _Normalised(GIN):
    """A GIN with batch normalisation after the weights of its GIN layers, but not of the logits.

    Without it sums over large neighbourhoods make training unstable. In `arrays` it is folded into
    the weights, so that a plain network of these computes the same.
    """

    def __init__(self, parameters: Mapping[str, Tensor], dropout: float = 0.0) -> None:
        super().__init__(parameters, dropout)
        gin_layers = [k for k in range(self.num_layers) if f"layer{k}/mlp/bias" in self.named]
        names = [f"layer{layer}/{part}" for layer in gin_layers for part in ("combine", "mlp")]
        logits = f"layer{self.num_layers - 1}/mlp"
        self.norms = nn.ModuleDict(
            {
                name: nn.BatchNorm1d(self.named[f"{name}/bias"].numel())
                for name in names
                if name != logits
            }
        )

    def _normalised(self, layer: int, part: str, values: Tensor) -> Tensor:
        name = f"layer{layer}/{part}"
        if name not in self.norms:
            return values
        normalised: Tensor = self.norms[name](values)
        return normalised

    def arrays(self) -> dict[str, Array]:
        """Return the parameters of the equal network without normalisation, float32."""
        arrays = super().arrays()
        for name, norm in self.norms.items():
            assert isinstance(norm, nn.BatchNorm1d)
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None
            assert variance is not None
            scale = norm.weight.detach() / torch.sqrt(variance + norm.eps)
            shift = norm.bias.detach() - mean * scale
            arrays[f"{name}/weight"] *= scale.numpy()
            arrays[f"{name}/bias"] = arrays[f"{name}/bias"] * scale.numpy() + shift.numpy()
        return arrays


class NormalisedGIN(_Normalised):
    """`GIN` as it is trained."""


class NormalisedGraphGIN(_Normalised, GraphGIN):
    """`GraphGIN` as it is trained."""
