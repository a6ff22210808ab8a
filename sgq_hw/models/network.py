"""What the float networks have in common: named parameters, dropout, sparse inputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sgq_hw.graphs import Graph
from sgq_hw.models.inputs import Array, Inputs, Matrix
from sgq_hw.models.sparse import drop_values, sparse_product

Place = Literal["input", "product", "attention"]
"""Of values that a network with quantised features stores: what a layer reads, features times
weights that the graph is then applied to, or attention weights."""

Emulation = Callable[[Tensor, Place], Tensor]


class Network(nn.Module, ABC):
    """A network that is its parameters, `layerI/NAME` as in `sgq_hw.models.layout`.

    Weights are [in, out]. `dropout` acts in training only. `emulate`, where it is set, rounds the
    values of every `Place`; training never sets it.
    """

    FIXED: ClassVar[frozenset[str]] = frozenset()
    """Parameters that are not trained."""

    def __init__(self, parameters: Mapping[str, Tensor], dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.emulate: Emulation | None = None
        self.named = nn.ParameterDict(
            {
                name: nn.Parameter(tensor, requires_grad=name not in self.FIXED)
                for name, tensor in parameters.items()
            }
        )

    @staticmethod
    @abstractmethod
    def initial(features: int, hidden: int, classes: int, layers: int) -> dict[str, Tensor]:
        """Draw the parameters of a new network from PyTorch's random state."""

    @staticmethod
    @abstractmethod
    def adjacency(graph: Graph) -> Matrix:
        """Return the adjacency in the form that the network sums over, float32 [n, n]."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits, float32 [n, classes]; of a graph set, [graphs, classes]."""

    def arrays(self) -> dict[str, Array]:
        """Return copies of the parameters, float32."""
        return {name: value.detach().numpy().copy() for name, value in self.named.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Return a network that holds copies of these arrays, as `arrays` returns them."""
        return cls({name: torch.tensor(array) for name, array in arrays.items()})

    def decays(self, name: str) -> bool:
        """Whether weight decay acts on a parameter."""
        return name in self.named

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len({name.partition("/")[0] for name in self.named})

    def value(self, layer: int, name: str) -> Tensor:
        """Return one parameter."""
        parameter: Tensor = self.named[f"layer{layer}/{name}"]
        return parameter

    def stored(self, values: Tensor, place: Place) -> Tensor:
        """Return `values` as they are, or as `emulate` rounds them."""
        return values if self.emulate is None else self.emulate(values, place)

    def dropped(self, hidden: Tensor) -> Tensor:
        """Return `hidden` after dropout."""
        return functional.dropout(hidden, self.dropout, self.training)

    def dropped_features(self, features: Matrix) -> Matrix:
        """Return `features` with dropout on the stored values; a zero stays zero either way."""
        if not self.training or self.dropout == 0:
            return features
        return drop_values(features, self.dropout)

    def stacked(
        self,
        features: Matrix,
        layer: Callable[[int, Matrix | Tensor], Tensor],
        activation: Callable[[Tensor], Tensor] = functional.relu,
    ) -> Tensor:
        """Return the result of all layers, dropout before each and an activation between them.

        `layer` is given the number of a layer and what it reads.
        """
        hidden = layer(0, self.dropped_features(features))
        for number in range(1, self.num_layers):
            hidden = layer(number, self.dropped(activation(hidden)))
        return hidden

    def combined(self, hidden: Matrix | Tensor, layer: int, name: str = "combine") -> Tensor:
        """Return `hidden` [n, in] times the weight `name` of a layer."""
        weight = self.value(layer, f"{name}/weight")
        if self.emulate is not None and not isinstance(hidden, Tensor):
            hidden = torch.from_numpy(hidden.toarray())  # a zero need not stay zero
        if isinstance(hidden, Tensor):
            return self.stored(hidden, "input") @ weight
        return sparse_product(hidden, weight)


def glorot(*shape: int) -> Tensor:
    """Draw a weight uniformly as in Glorot & Bengio 2010."""
    return nn.init.xavier_uniform_(torch.empty(shape))
