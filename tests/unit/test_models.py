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
from sgq_hw.models.edges import Edges, edge_dots, edge_softmax, edge_sums, weighted_sums
from sgq_hw.models.fit import predict_logits
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
    weights = edge_softmax(torch.tensor([1000.0, 1000.0, -1000.0, 1000.0]), edges)
    assert weights.tolist() == [0.5, 0.5, 0.0, 1.0]


def test_gradients_of_attention() -> None:
    rng = np.random.default_rng(3)
    pattern = (rng.random((7, 7)) < 0.4) | np.eye(7, dtype=np.bool_)
    edges = Edges.of(sparse.csr_array(pattern.astype(np.float32)))

    def draw(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.normal(size=shape), requires_grad=True)

    e = int(pattern.sum())
    check: Any = torch.autograd.gradcheck
    assert check(lambda a, b: edge_sums(a, b, edges), (draw(7), draw(7)))
    assert check(lambda a: edge_dots(a, edges), (draw(7, 3),))
    assert check(lambda a: edge_softmax(a, edges), (draw(e),))
    assert check(lambda a, b: weighted_sums(a, b, edges), (draw(e), draw(7, 3)))


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
