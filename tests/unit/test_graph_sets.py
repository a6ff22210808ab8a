"""Sets of graphs: their files, folds, the union, and GIN that classifies them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sgq_hw.errors import InputError
from sgq_hw.graph_sets import FOLDS, GraphSet, load_graph_set, stratified_folds
from sgq_hw.graphs import load_graph
from sgq_hw.models.catalogue import inputs_for
from sgq_hw.models.fit import predict_logits
from sgq_hw.models.gin import GIN, GraphGIN, NormalisedGIN, NormalisedGraphGIN
from sgq_hw.node_sets import MASKS
from sgq_hw.train import load_trained, predict, save_trained, train
from tests import dense_models

Arrays = dict[str, npt.NDArray[Any]]


def set_arrays() -> Arrays:
    """Forty graphs: a path of three nodes (class 0) and a triangle (class 1) in turn."""
    path = ((1, 0), (0, 1), (2, 1), (1, 2))
    triangle = ((1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2))
    edges = [path if number % 2 == 0 else triangle for number in range(40)]
    return {
        "node_ptr": np.arange(41, dtype=np.int32) * 3,
        "edge_ptr": np.cumsum([0, *map(len, edges)]).astype(np.int32),
        "edge_index": np.array([pair for graph in edges for pair in graph], np.uint16).T,
        "y": (np.arange(40) % 2).astype(np.int8),
        "node_label": np.tile(np.array([0, 1, 0], np.uint8), 40),
    }


def write(folder: Path, **changes: Any) -> str:
    """Write the set with some arrays changed (None: left out)."""
    arrays = set_arrays() | changes
    np.savez(folder / "set.npz", **{k: v for k, v in arrays.items() if v is not None})
    return str(folder / "set.npz")


@pytest.fixture
def small(tmp_path: Path) -> GraphSet:
    return load_graph_set(write(tmp_path))


def test_the_union(small: GraphSet) -> None:
    assert (small.name, small.num_graphs) == ("set", 40)
    assert (small.num_classes, small.num_features) == (2, 2)
    features, adjacency = dense_models.dense(small.union)
    path = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    triangle = 1 - np.eye(3)
    for number in range(40):
        part = slice(3 * number, 3 * number + 3)
        assert np.array_equal(adjacency[part, part], (path, triangle)[number % 2])
        assert np.array_equal(features[part], [[1, 0], [0, 1], [1, 0]])
    assert adjacency.sum() == small.union.num_edges == 20 * (4 + 6)
    assert np.array_equal(small.graph_of_node, np.repeat(np.arange(40), 3))
    assert np.array_equal(small.node_ptr, np.arange(41) * 3)


def test_edges_run_from_the_first_row_to_the_second(tmp_path: Path) -> None:
    one_edge = {"edge_index": np.array([[2], [0]]), "edge_ptr": np.minimum(np.arange(41), 1)}
    _, adjacency = dense_models.dense(load_graph_set(write(tmp_path, **one_edge)).union)
    assert np.argwhere(adjacency).tolist() == [[0, 2]]


def test_a_subset_is_the_same_graphs(small: GraphSet) -> None:
    selected = np.zeros(40, np.bool_)
    selected[[3, 8, 39]] = True
    part = small.subset(selected)
    nodes = selected[small.graph_of_node]
    features, adjacency = dense_models.dense(small.union)
    part_features, part_adjacency = dense_models.dense(part.union)
    assert np.array_equal(part_features, features[nodes])
    assert np.array_equal(part_adjacency, adjacency[np.ix_(nodes, nodes)])
    assert part.graph_of_node.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert part.y.tolist() == [1, 0, 1]
    assert np.array_equal(part.test_mask, small.test_mask[selected])


@pytest.mark.parametrize("seed", [0, 5])
def test_folds_are_stratified(seed: int) -> None:
    y = np.random.default_rng(1).choice(3, 187, p=[0.6, 0.3, 0.1])
    folds = stratified_folds(y, seed=seed)
    for members in (slice(None), *(y == label for label in range(3))):
        sizes = np.bincount(folds[members], minlength=FOLDS)
        assert sizes.size == FOLDS
        assert np.ptp(sizes) <= 1
    assert np.array_equal(folds, stratified_folds(y, seed=seed))
    assert not np.array_equal(folds, stratified_folds(y, seed=seed + 1))


def test_every_graph_is_tested_once(tmp_path: Path) -> None:
    sets = [load_graph_set(write(tmp_path), fold=fold) for fold in range(FOLDS)]
    for part in sets:
        masks = np.array([part.labelled(mask) for mask in MASKS])
        assert np.array_equal(masks.sum(axis=0), np.ones(40))  # each in just one of the three
        assert masks.sum(axis=1).tolist() == [32, 4, 4]
        assert part.y[part.test_mask].mean() == 0.5
    assert np.array_equal(sum(part.test_mask.astype(int) for part in sets), np.ones(40))


REST = range(9, 123, 3)
BEYOND = set_arrays()["edge_index"].copy()
BEYOND[0, 5] = 3
SWAPPED = set_arrays()["edge_index"][:, [1, 0, *range(2, 200)]]


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"node_ptr": None}, "node_ptr", "missing: one graph"),
        ({"node_ptr": np.arange(41) * 3.0}, "node_ptr", "wrong type float64"),
        ({"node_ptr": np.arange(41) * 3 + 1}, "node_ptr", "does not start at 0"),
        ({"node_ptr": np.array([0, 3, 2, *REST])}, "node_ptr", "decreases after graph 1"),
        ({"node_ptr": np.array([0, 3, 3, *REST])}, "node_ptr", "graph 1 has no nodes"),
        ({"node_ptr": np.arange(10)}, "node_ptr", "9 graphs are too few for 10 folds"),
        ({"node_ptr": np.zeros(1, np.int32)}, "node_ptr", "no graphs"),
        ({"edge_ptr": None}, "edge_ptr", "missing"),
        ({"edge_ptr": np.array([0, 200])}, "edge_ptr", "1 graphs, but node_ptr has 40"),
        ({"edge_index": BEYOND}, "edge_index", "a node beyond the 3 of graph 1"),
        ({"edge_index": SWAPPED}, "edge_index", "not in ascending order, or repeating, in graph 0"),
        ({"edge_index": BEYOND[:, 1:]}, "edge_index", "shape"),
        ({"edge_index": -BEYOND.astype(np.int16)}, "edge_index", "not all in"),
        ({"y": None}, "y", "missing"),
        ({"y": np.zeros(39, np.int8)}, "y", "shape"),
        ({"y": np.full(40, -1)}, "y", "not all in"),
        ({"node_label": None}, "node_label", "missing"),
        ({"node_label": np.zeros(119, np.uint8)}, "node_label", "shape"),
        ({"node_label": np.array([None] * 120, object)}, "node_label", "object arrays"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], field: str, reason: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        load_graph_set(path)
    assert re.match(f"{re.escape(path)}: {field}: .*{reason}", str(caught.value))


@pytest.mark.parametrize("fold", [-1, 10])
def test_no_such_fold(tmp_path: Path, fold: int) -> None:
    with pytest.raises(InputError, match=rf"fold: {fold} is not in 0\.\.9$"):
        load_graph_set(write(tmp_path), fold=fold)


def test_training_and_file(small: GraphSet, tmp_path: Path) -> None:
    """Paths and triangles differ in degree alone; GIN tells them apart."""
    trained = train(small, model="gin", epochs=20, hidden=8)
    assert set(trained.accuracy.values()) == {100.0}
    assert trained.num_layers == 4
    assert {name: a.shape for name, a in trained.parameters.items() if "layer3" in name} == {
        "layer3/combine/weight": (8, 2), "layer3/bias": (2,),
    }  # fmt: skip
    path = tmp_path / "f.npz"
    save_trained(path, trained, small)
    loaded, graphs = load_trained(path)
    assert isinstance(graphs, GraphSet)
    logits = predict(loaded, graphs)
    assert logits.shape == (40, 2)
    assert np.array_equal(logits, predict(trained, small))
    expected = dense_models.graph_gin(small.union, small.graph_of_node, loaded.parameters, 4)
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    again = tmp_path / "again.npz"
    save_trained(again, loaded, graphs)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("set/y", None, "missing"),
        ("set/y", np.full(40, 2), "3 classes, but the network has 2 outputs"),
        ("set/y", np.zeros(0, np.int8), "no graphs"),
        ("set/train_mask", np.ones(39, np.bool_), "shape"),
        ("set/colour", np.ones(1), "unknown field"),
        ("set/graph_of_node", np.repeat(np.arange(40), 3)[::-1], "not ascending over all of"),
        ("set/graph_of_node", np.repeat(np.arange(40), 3) // 2, "not ascending over all of"),
        ("set/graph_of_node", np.repeat(np.arange(40), 3) + 1, "not all in"),
        ("set/graph_of_node", np.array([0, 0, *[1] * 4, *np.repeat(np.arange(2, 40), 3)]),
         "joins two graphs"),
        ("layer3/bias", None, "missing"),
    ],
)  # fmt: skip
def test_file_refusals(
    small: GraphSet, tmp_path: Path, name: str, value: Any, reason: str
) -> None:
    path = tmp_path / "f.npz"
    save_trained(path, train(small, model="gin", epochs=1, hidden=2), small)
    with np.load(path) as archive:
        arrays = dict(archive) | {name: value}
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {name}: .*{reason}"):
        load_trained(path)


def test_folding_keeps_the_logits(small: GraphSet) -> None:
    """Of a network whose normalisation is far from the identity."""
    torch.manual_seed(0)
    network = NormalisedGraphGIN(GraphGIN.initial(2, 8, 2, 4))
    inputs = inputs_for(GraphGIN, small)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.3 * torch.randn_like(value))
        for _ in range(5):
            network(inputs)
    folded = GraphGIN.from_arrays(network.arrays())
    expected = predict_logits(network, inputs)
    plain = GraphGIN.from_arrays({k: v.detach().numpy() for k, v in network.named.items()})
    assert np.abs(predict_logits(folded, inputs) - expected).max() < 1e-4
    assert np.abs(predict_logits(plain, inputs) - expected).max() > 0.1


def test_folding_keeps_the_logits_of_nodes() -> None:
    """Of Amazon-Computers' recipe, which the name selects; the logits are not normalised."""
    karate = replace(load_graph("karate"), name="amazon_computers")
    torch.manual_seed(0)
    network = NormalisedGIN(GIN.initial(34, 16, 2, 2))
    assert set(network.norms) == {"layer0/combine", "layer0/mlp", "layer1/combine"}
    inputs = inputs_for(GIN, karate)
    for _ in range(5):
        network(inputs)
    folded = GIN.from_arrays(network.arrays())
    difference = predict_logits(folded, inputs) - predict_logits(network, inputs)
    assert np.abs(difference).max() < 1e-4
    trained = train(karate, model="gin", epochs=20)
    assert trained.accuracy["train"] == 100
    expected = dense_models.NETWORKS["gin"](karate, trained.parameters, 2)
    assert np.abs(predict(trained, karate) - expected).max() < 1e-4 * np.abs(expected).max()


def test_only_training_graphs_train(small: GraphSet) -> None:
    """Neither labels nor features of test graphs, nor statistics over them, have a part."""
    nodes = small.test_mask[small.graph_of_node]
    union = replace(small.union, x_indices=np.where(nodes, 0, small.union.x_indices))
    changed = replace(small, union=union, y=np.where(small.test_mask, 0, small.y))
    one, other = (train(graphs, model="gin", epochs=8, hidden=4) for graphs in (small, changed))
    assert all(np.array_equal(other.parameters[k], v) for k, v in one.parameters.items())


@pytest.mark.parametrize("model", ["gcn", "gat", "agnn", "sage"])
def test_only_gin_classifies_graphs(small: GraphSet, model: str) -> None:
    with pytest.raises(InputError, match=f"^train: model: {model} does not classify graphs"):
        train(small, model=model)


def test_a_set_needs_training_graphs(small: GraphSet) -> None:
    with pytest.raises(InputError, match=r"^set: val_mask: selects no graph$"):
        train(replace(small, val_mask=np.zeros(40, np.bool_)), model="gin")


@pytest.mark.parametrize(
    ("name", "graphs", "nodes", "edges", "features"),
    [("mutag", 188, 3371, 7442, 7), ("proteins", 1113, 43471, 162088, 3)],
)
def test_data_sets(
    name: str, graphs: int, nodes: int, edges: int, features: int, data_folder: Path
) -> None:
    loaded = load_graph_set(str(data_folder / f"{name}.npz"), fold=9)
    union = loaded.union
    assert (loaded.num_graphs, union.num_nodes, union.num_edges) == (graphs, nodes, edges)
    assert (loaded.num_features, loaded.num_classes) == (features, 2)
    sizes = [int(loaded.labelled(mask).sum()) for mask in MASKS]
    assert abs(sizes[2] - graphs / 10) < 1
    assert abs(sizes[1] - graphs / 10) < 1


def test_mutag_learns(data_folder: Path) -> None:
    """The larger class is 66 percent of the graphs."""
    graphs = load_graph_set(str(data_folder / "mutag.npz"))
    trained = train(graphs, model="gin")
    assert trained.accuracy["train"] >= 85
    assert trained.accuracy["test"] >= 70
