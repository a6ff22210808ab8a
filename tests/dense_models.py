"""The networks' formulas, dense and in float64, with nothing of the package but arrays."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from sgq_hw.graphs import Graph

Dense = npt.NDArray[np.float64]
Parameters = Mapping[str, npt.NDArray[np.float32]]


def dense(graph: Graph) -> tuple[Dense, Dense]:
    """Return the row-normalised features [n, f] and the stored adjacency [n, n]."""
    n = graph.num_nodes
    adjacency = np.zeros((n, n))
    features = np.zeros((n, graph.num_features))
    for row in range(n):
        adjacency[row, graph.indices[graph.indptr[row] : graph.indptr[row + 1]]] = 1
        stored = slice(graph.x_indptr[row], graph.x_indptr[row + 1])
        values = 1 if graph.x_values is None else graph.x_values[stored]
        features[row, graph.x_indices[stored]] = values
    if (features >= 0).all():
        features /= np.maximum(features.sum(axis=1, keepdims=True), 1e-30)
    return features, adjacency


def layer_of(parameters: Parameters, layer: int) -> dict[str, Dense]:
    prefix = f"layer{layer}/"
    return {
        name.removeprefix(prefix): array.astype(np.float64)
        for name, array in parameters.items()
        if name.startswith(prefix)
    }


def looped(adjacency: Dense) -> Dense:
    result = adjacency.copy()
    np.fill_diagonal(result, 1)
    return result


def attention(scores: Dense, adjacency: Dense) -> Dense:
    """Return the softmax of each row over the positions where there is an edge."""
    powers: Dense = np.where(adjacency > 0, np.exp(scores), 0.0)
    total: Dense = powers.sum(axis=1, keepdims=True)
    return powers / total


def gcn_layer(x: Dense, adjacency: Dense, p: dict[str, Dense]) -> Dense:
    loops = looped(adjacency)
    half = np.diag(loops.sum(axis=1) ** -0.5)
    return half @ loops @ half @ (x @ p["combine/weight"]) + p["bias"]


def sage_layer(x: Dense, adjacency: Dense, p: dict[str, Dense]) -> Dense:
    means = np.zeros_like(x)
    for node, row in enumerate(adjacency):
        if row.any():
            means[node] = x[row > 0].mean(axis=0)
    return x @ p["root/weight"] + means @ p["neighbour/weight"] + p["bias"]


def gin_layer(x: Dense, adjacency: Dense, p: dict[str, Dense]) -> Dense:
    inner = np.maximum(looped(adjacency) @ x @ p["combine/weight"] + p["combine/bias"], 0)
    return inner @ p["mlp/weight"] + p["mlp/bias"]


def gat_layer(x: Dense, adjacency: Dense, p: dict[str, Dense]) -> Dense:
    heads, channels = p["source"].shape
    h = x @ p["combine/weight"]
    outputs = []
    for head in range(heads):
        part = h[:, head * channels : (head + 1) * channels]
        scores = (part @ p["target"][head])[:, None] + (part @ p["source"][head])[None, :]
        scores = np.where(scores > 0, scores, 0.2 * scores)
        outputs.append(attention(scores, looped(adjacency)) @ part)
    return np.concatenate(outputs, axis=1) + p["bias"]


def stacked(
    layer: Callable[[Dense, Dense, dict[str, Dense]], Dense],
    activation: Callable[[Dense], Dense],
) -> Callable[[Graph, Parameters, int], Dense]:
    def network(graph: Graph, parameters: Parameters, layers: int) -> Dense:
        hidden, adjacency = dense(graph)
        for index in range(layers):
            hidden = layer(hidden, adjacency, layer_of(parameters, index))
            if index < layers - 1:
                hidden = activation(hidden)
        return hidden

    return network


def relu(x: Dense) -> Dense:
    return np.maximum(x, 0)


def elu(x: Dense) -> Dense:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def agnn(graph: Graph, parameters: Parameters, layers: int) -> Dense:
    features, adjacency = dense(graph)
    first, last = layer_of(parameters, 0), layer_of(parameters, layers - 1)
    hidden = relu(features @ first["combine/weight"] + first["bias"])
    for index in range(1, layers - 1):
        norms = np.linalg.norm(hidden, axis=1)
        products = np.outer(norms, norms)
        cosines = np.where(products > 0, hidden @ hidden.T / np.where(products > 0, products, 1), 0)
        beta = layer_of(parameters, index)["beta"]
        hidden = attention(beta * cosines, looped(adjacency)) @ hidden
    return hidden @ last["combine/weight"] + last["bias"]


def graph_gin(
    graph: Graph, graph_of_node: npt.NDArray[np.int64], parameters: Parameters, layers: int
) -> Dense:
    hidden, adjacency = dense(graph)
    for index in range(layers - 1):
        hidden = relu(gin_layer(hidden, adjacency, layer_of(parameters, index)))
    sums = [hidden[graph_of_node == number].sum(axis=0) for number in np.unique(graph_of_node)]
    last = layer_of(parameters, layers - 1)
    return np.array(sums) @ last["combine/weight"] + last["bias"]


NETWORKS: dict[str, Callable[[Graph, Parameters, int], Dense]] = {
    "gcn": stacked(gcn_layer, relu),
    "sage": stacked(sage_layer, relu),
    "gin": stacked(gin_layer, relu),
    "gat": stacked(gat_layer, elu),
    "agnn": agnn,
}
