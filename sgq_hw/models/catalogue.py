"""The networks by name, and what they read of a graph or of a graph set."""

from typing import Final

from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.models.agnn import AGNN
from sgq_hw.models.gat import GAT
from sgq_hw.models.gcn import GCN
from sgq_hw.models.gin import GIN, GraphGIN, NormalisedGIN, NormalisedGraphGIN
from sgq_hw.models.inputs import Inputs, input_features, sum_pooling
from sgq_hw.models.network import Network
from sgq_hw.models.sage import SAGE

NODE_NETWORKS: Final[dict[str, type[Network]]] = {
    "gcn": GCN, "gat": GAT, "agnn": AGNN, "sage": SAGE, "gin": GIN,
}  # fmt: skip
GRAPH_NETWORKS: Final[dict[str, type[Network]]] = {"gin": GraphGIN}

# As what a network is trained where its recipe asks for batch normalisation; `arrays` folds it.
NORMALISED: Final[dict[type[Network], type[Network]]] = {
    GIN: NormalisedGIN, GraphGIN: NormalisedGraphGIN,
}  # fmt: skip


def network_for(model: str, data: Graph | GraphSet) -> type[Network]:
    """Return the class of a model: of a graph, it classifies nodes; of a set, graphs."""
    return (GRAPH_NETWORKS if isinstance(data, GraphSet) else NODE_NETWORKS)[model]


def inputs_for(network: type[Network], data: Graph | GraphSet) -> Inputs:
    """Return what a network reads."""
    if isinstance(data, GraphSet):
        union = data.union
        return Inputs(input_features(union), network.adjacency(union), sum_pooling(data))
    return Inputs(input_features(data), network.adjacency(data))
