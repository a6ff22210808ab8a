"""The float networks: against dense NumPy ones, their gradients, files and accuracy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import sparse

from sgq_hw.errors import InputError
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.models import MODELS
from sgq_hw.models.catalogue import NODE_NETWORKS, inputs_for
from sgq_hw.models.edges import Edges, edge_dots, edge_softmax, leaky_edge_sums, weighted_sums
from sgq_hw.models.fit import predict_logits
from sgq_hw.models.sparse import drop_values, sparse_product
from sgq_hw.node_sets import row_starts
from sgq_hw.train import load_trained, predict, save_trained, train
from tests import dense_models

DEPTHS = [("gcn", 2), ("gcn", 3), ("sage", 2), ("sage", 3), ("gin", 2), ("gin", 3), ("gat", 2),
          ("gat", 3), ("agnn", 4)]  # fmt: skip


def random_graph(seed: int, *, nodes: int = 30, signed: bool = False) -> Graph:
    """Directed, with isolated nodes, nodes without features, and a stored self loop."""
    rng = np.random.default_rng(seed)
    adjacency = rng.random((nodes, nodes)) < 0.15
    adjacency[:4] = adjacency[:, :4] = False
    adjacency[7, 7] = True
    features = (rng.random((nodes, 9)) < 0.4) * (rng.random((nodes, 9)) - 0.5 * signed)
    features[:2] = features[10] = 0
    rows, columns = np.nonzero(features)
    targets, sources = np.nonzero(adjacency)
    return Graph(
        name="random",
        indptr=row_starts(np.bincount(targets, minlength=nodes)),
        indices=sources,
        x_indptr=row_starts(np.bincount(rows, minlength=nodes)),
        x_indices=columns,
        x_values=features[rows, columns],
        num_features=9,
    )


def random_parameters(model: str, layers: int, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Of the right names and shapes, and not small: biases and betas are not where they start."""
    rng = np.random.default_rng(seed)
    shapes = NODE_NETWORKS[model].initial(9, 5, 3, layers)
    return {k: rng.normal(0, 1, tuple(v.shape)).astype(np.float32) for k, v in shapes.items()}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("model", "layers"), DEPTHS)
def test_forward_against_dense(model: str, layers: int, signed: bool) -> None:
    graph = random_graph(layers, signed=signed)
    parameters = random_parameters(model, layers, 5)
    network = NODE_NETWORKS[model].from_arrays(parameters)
    logits = predict_logits(network, inputs_for(type(network), graph))
    expected = dense_models.NETWORKS[model](graph, parameters, layers)
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 0.01  # else it would show little


def test_agnn_meets_zero_rows() -> None:
    """With a negative bias, nodes without features stay zero, and the gradient finite."""
    graph = random_graph(1)
    parameters = random_parameters("agnn", 4, 2)
    parameters["layer0/bias"] = np.full(5, -0.05, np.float32)
    network = NODE_NETWORKS["agnn"].from_arrays(parameters)
    logits = network(inputs_for(type(network), graph))
    expected = dense_models.agnn(graph, parameters, 4)
    assert np.allclose(expected[0], parameters["layer3/bias"])
    assert np.abs(logits.detach().numpy() - expected).max() < 1e-5
    logits.square().sum().backward()
    for name, value in network.named.items():
        assert (value.grad is None) == (name == "layer1/beta")
        assert value.grad is None or bool(torch.isfinite(value.grad).all())


def test_attention_survives_large_scores() -> None:
    edges = Edges.of(sparse.csr_array(np.ones((2, 2), np.float32)))
    weights = edge_softmax(torch.tensor([[1000.0], [1000.0], [-1000.0], [1000.0]]), edges)
    assert weights.flatten().tolist() == [0.5, 0.5, 0.0, 1.0]


def random_edges(seed: int, nodes: int = 9) -> tuple[Edges, torch.Tensor, torch.Tensor]:
    """Edges and their targets and sources: one hub each way, and rows of a single edge."""
    rng = np.random.default_rng(seed)
    pattern = (rng.random((nodes, nodes)) < 0.3) | np.eye(nodes, dtype=np.bool_)
    pattern[2] = pattern[:, 3] = True
    pattern[5:7] = False
    pattern[5, 5] = pattern[6, 1] = True
    targets, sources = map(torch.from_numpy, np.nonzero(pattern))
    return Edges.of(sparse.csr_array(pattern.astype(np.float32))), targets, sources


def dense_attention(
    logits: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor, sources: torch.Tensor
) -> torch.Tensor:
    """Softmax and weighted sums of PyTorch's own operations on a full matrix."""
    n, heads = len(rows), logits.shape[1]
    full = torch.full((n, n, heads), -torch.inf, dtype=logits.dtype)
    weights = full.index_put((targets, sources), logits).softmax(dim=1)
    return torch.einsum("ijh,jhc->ihc", weights, rows.view(n, heads, -1)).flatten(1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("heads", "channels"), [(1, 1), (1, 16), (8, 8), (3, 5)])
def test_attention_against_autograd(seed: int, heads: int, channels: int) -> None:
    """Values and gradients in float64, for contiguous and strided operands."""
    edges, targets, sources = random_edges(seed)
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.normal(size=shape), requires_grad=True)

    ends, rows, factors = draw(9, 2 * heads), draw(9, heads * channels), draw(9, heads * channels)
    left, right = ends.chunk(2, dim=1)
    logits = torch.nn.functional.leaky_relu(left[targets] + right[sources], 0.2)
    cosines = (rows[targets] * rows[sources]).sum(dim=1, keepdim=True).expand(-1, heads)
    expected = dense_attention(logits + cosines, rows, targets, sources)
    scores = leaky_edge_sums(left, right, 0.2, edges) + edge_dots(rows, edges)
    actual = weighted_sums(edge_softmax(scores, edges), rows, edges)
    assert torch.allclose(actual, expected, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad((result * factors).sum(), (ends, rows)) for result in (expected, actual)
    ]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


def test_dropped_attention() -> None:
    """The weights that PyTorch's dropout would drop from the same state, and its gradients."""
    edges, targets, sources = random_edges(4)
    rng = np.random.default_rng(4)
    weights = torch.tensor(rng.normal(size=(len(targets), 3)), requires_grad=True)
    rows = torch.tensor(rng.normal(size=(9, 6)), requires_grad=True)
    torch.manual_seed(7)
    actual = weighted_sums(weights, rows, edges, dropout=0.6)
    torch.manual_seed(7)
    heads = [torch.nn.functional.dropout(weights[:, head], 0.6) for head in range(3)]
    full = torch.zeros(9, 9, 3, dtype=torch.float64)
    full = full.index_put((targets, sources), torch.stack(heads, dim=1))
    expected = torch.einsum("ijh,jhc->ihc", full, rows.view(9, 3, 2)).flatten(1)
    assert torch.allclose(actual, expected, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(result.square().sum(), (weights, rows)) for result in (expected, actual)
    ]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_products(dtype: type[np.floating[Any]]) -> None:
    """Products and gradients are SciPy's to the bit, with dropout those of the kept values."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(20, 7)) * (rng.random((20, 7)) < 0.4)
    matrix = sparse.csr_array(values.astype(dtype))
    dense = torch.tensor(rng.normal(size=(7, 5)).astype(dtype), requires_grad=True)
    result = sparse_product(matrix, dense)
    assert np.array_equal(result.detach().numpy(), matrix @ dense.detach().numpy())
    factors = torch.from_numpy(rng.normal(size=(20, 5)).astype(dtype))
    (gradient,) = torch.autograd.grad((result * factors).sum(), dense)
    assert np.array_equal(gradient.numpy(), matrix.T @ factors.numpy())

    dropped = drop_values(matrix, 0.5, torch.Generator().manual_seed(1))
    kept = torch.rand(matrix.nnz, generator=torch.Generator().manual_seed(1)).numpy() >= 0.5
    assert 0 < dropped.nnz == kept.sum() < matrix.nnz
    parts = (matrix.data * kept * dtype(2), matrix.indices, matrix.indptr)
    assert np.array_equal(dropped.toarray(), sparse.csr_array(parts, shape=(20, 7)).toarray())


@pytest.mark.parametrize("model", MODELS)
def test_training_and_file(model: str, tmp_path: Path) -> None:
    """The result depends on the arguments only; what is saved predicts the same."""
    karate = load_graph("karate")
    trained, again = (train(karate, model=model, epochs=60, lr=0.03) for _ in range(2))
    other = train(karate, model=model, epochs=60, lr=0.03, seed=1)
    assert all(np.array_equal(again.parameters[k], v) for k, v in trained.parameters.items())
    assert any(not np.array_equal(other.parameters[k], v) for k, v in trained.parameters.items())
    assert trained.accuracy["train"] == 100
    assert trained.accuracy["test"] >= 70

    path = tmp_path / "f.npz"
    save_trained(path, trained, karate)
    loaded, graph = load_trained(path)
    assert isinstance(graph, Graph)
    logits = predict(loaded, graph)
    assert np.array_equal(logits, predict(trained, karate))
    expected = dense_models.NETWORKS[model](graph, loaded.parameters, loaded.num_layers)
    assert np.abs(logits - expected).max() < 1e-4
    assert karate.y is not None
    chosen = karate.labelled("test_mask")
    right = (logits.argmax(axis=1) == karate.y)[chosen].mean()
    assert trained.accuracy["test"] == pytest.approx(100 * right)


def test_parameter_names_and_what_is_fixed() -> None:
    karate = load_graph("karate")
    agnn = train(karate, model="agnn", epochs=5).parameters
    assert (agnn["layer1/beta"].tolist(), agnn["layer2/beta"].shape) == ([1.0], (1,))
    assert agnn["layer2/beta"] != 1
    gat = train(karate, model="gat", epochs=1)
    assert gat.recipe["hidden"] == 8
    assert {name: array.shape for name, array in gat.parameters.items()} == {
        "layer0/combine/weight": (34, 64), "layer0/source": (8, 8), "layer0/target": (8, 8),
        "layer0/bias": (64,),
        "layer1/combine/weight": (64, 2), "layer1/source": (1, 2), "layer1/target": (1, 2),
        "layer1/bias": (2,),
    }  # fmt: skip
    gin = train(karate, model="gin", epochs=1, hidden=5).parameters
    assert {name: array.shape for name, array in gin.items() if "layer1" in name} == {
        "layer1/combine/weight": (5, 5), "layer1/combine/bias": (5,),
        "layer1/mlp/weight": (5, 2), "layer1/mlp/bias": (2,),
    }  # fmt: skip
    sage = train(karate, model="sage", epochs=1).parameters
    parts = ("neighbour/weight", "root/weight", "bias")
    assert set(sage) == {f"layer{layer}/{part}" for layer in range(2) for part in parts}


def test_agnn_has_four_layers() -> None:
    with pytest.raises(InputError, match=r"^train: layers: 3 is not 4, as agnn has$"):
        train(load_graph("karate"), model="agnn", layers=3)


def first(manifest: dict[str, Any]) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = manifest["layers"][0]["shapes"]
    return shapes


@pytest.mark.parametrize(
    ("model", "change", "reason"),
    [
        ("gat", lambda m: first(m).update(source=[4, 8], target=[4, 8]),
         r"layers\[0\]\.shapes: outputs are not heads times channels"),
        ("gat", lambda m: first(m).update(target=[8, 4]), r"target: \[8, 4\] does not fit"),
        ("gin", lambda m: first(m).pop("mlp/bias"), r"layers\[0\]\.shapes: mlp/bias: missing"),
        ("gin", lambda m: m["layers"][1].update(kind="linear"), r"kind: 'linear', expected gin"),
        ("sage", lambda m: first(m).update({"root/weight": [34, 15]}), r"\[34, 15\] does not fit"),
        ("sage", lambda m: m.update(model="gcn"), r"layers\[0\]\.kind: 'sage', expected gcn"),
        ("agnn", lambda m: m["layers"][1]["shapes"].update(beta=[2]), r"beta: \[2\] does not fit"),
        ("agnn", lambda m: m["layers"].pop(), r"layers: 3 of them, expected 4"),
        ("agnn", lambda m: m["layers"].append(m["layers"][0]), r"kind: 'linear', expected none"),
    ],
)  # fmt: skip
def test_manifest_refusals(model: str, change: Any, reason: str, tmp_path: Path) -> None:
    karate, path = load_graph("karate"), tmp_path / "f.npz"
    save_trained(path, train(karate, model=model, epochs=1), karate)
    with np.load(path) as archive:
        arrays = dict(archive)
    manifest = json.loads(arrays["manifest"].tobytes())
    change(manifest)
    arrays["manifest"] = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=f": manifest: .*{reason}"):
        load_trained(path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("layer2/beta", np.array([np.nan], np.float32), "NaN"),
        ("layer2/beta", np.ones(1), "wrong type float64"),
        ("layer2/beta", np.ones(2, np.float32), "shape"),
        ("layer4/beta", np.ones(1, np.float32), "unknown field"),
    ],
)
def test_array_refusals(name: str, value: Any, reason: str, tmp_path: Path) -> None:
    karate, path = load_graph("karate"), tmp_path / "f.npz"
    trained = train(karate, model="agnn", epochs=1)
    save_trained(path, trained, karate)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {name: value}))
    with pytest.raises(InputError, match=f": {name}: .*{reason}"):
        load_trained(path)


@pytest.mark.parametrize(
    ("model", "epochs", "least"),
    [("gat", 25, 76), ("agnn", 40, 76), ("sage", 40, 76), ("gin", 40, 66)],
)
def test_cora_learns_quickly(model: str, epochs: int, least: float, data_folder: Path) -> None:
    """Well below the accuracies of a whole run (docs/training.md), far above chance."""
    graph = load_graph(str(data_folder / "cora.npz"))
    trained = train(graph, model=model, epochs=epochs, lr=0.02)
    assert trained.accuracy["test"] >= least


def test_test_labels_have_no_part_in_training() -> None:
    karate = load_graph("karate")
    assert karate.y is not None
    swapped = np.where(karate.labelled("test_mask"), 1 - karate.y, karate.y)
    one, other = (
        train(graph, model="sage", epochs=20) for graph in (karate, replace(karate, y=swapped))
    )
    assert all(np.array_equal(other.parameters[k], v) for k, v in one.parameters.items())
    assert one.accuracy["test"] == pytest.approx(100 - other.accuracy["test"])
