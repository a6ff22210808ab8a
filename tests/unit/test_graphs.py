"""Graphs: the documented `.npz` form, karate club, NetworkX, and the arrays that others embed."""

import re
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgq_hw.errors import InputError
from sgq_hw.graphs import (
    Graph,
    graph_from_arrays,
    graph_from_networkx,
    graph_to_arrays,
    input_row_factors,
    load_graph,
    with_self_loops,
)
from sgq_hw.node_sets import MASKS

Arrays = dict[str, npt.NDArray[Any]]


def node_set(**changes: Any) -> Arrays:
    """A valid file of 5 nodes: a path 0-1-2-3, node 4 isolated without features or label.

    A change to None leaves a field out.
    """
    arrays: dict[str, Any] = {
        "indptr": np.array([0, 1, 3, 5, 6, 6], np.int32),
        "indices": np.array([1, 0, 2, 1, 3, 2], np.int32),
        "x_shape": np.array([5, 9], np.int32),
        "x_indptr": np.array([0, 2, 3, 5, 6, 6], np.int32),
        "x_indices": np.array([0, 8, 3, 1, 2, 4], np.uint16),
        "y": np.array([0, 1, 0, 1, -1], np.int8),
        "train_mask": np.array([1, 1, 0, 0, 0], np.bool_),
        "val_mask": np.array([0, 0, 1, 0, 0], np.bool_),
        "test_mask": np.array([0, 0, 0, 1, 1], np.bool_),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def write(folder: Path, arrays: Arrays, name: str = "small") -> Path:
    path = folder / f"{name}.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return path


def same(left: Graph, right: Graph) -> bool:
    """Whether all fields are equal in value and type."""
    for field in dataclass_fields(Graph):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            if not isinstance(b, np.ndarray) or a.dtype != b.dtype or not np.array_equal(a, b):
                return False
        elif a != b:
            return False
    return True


def dense(graph: Graph) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (A, X) entry by entry."""
    adjacency = np.zeros((graph.num_nodes, graph.num_nodes))
    features = np.zeros((graph.num_nodes, graph.num_features))
    for row in range(graph.num_nodes):
        for position in range(graph.indptr[row], graph.indptr[row + 1]):
            adjacency[row, graph.indices[position]] += 1
        for position in range(graph.x_indptr[row], graph.x_indptr[row + 1]):
            value = 1.0 if graph.x_values is None else graph.x_values[position]
            features[row, graph.x_indices[position]] += value
    return adjacency, features


def refusal(spec: Path | str, **options: Any) -> str:
    """Return the one line that loading `spec` is refused with."""
    with pytest.raises(InputError) as caught:
        load_graph(str(spec), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_npz_by_path(tmp_path: Path) -> None:
    graph = load_graph(str(write(tmp_path, node_set())))
    assert (graph.name, graph.num_nodes, graph.num_edges) == ("small", 5, 6)
    assert (graph.num_features, graph.num_classes, graph.features_complete) == (9, 2, True)
    assert graph.degrees.tolist() == [1, 2, 2, 1, 0]
    assert graph.x_values is None
    assert graph.labelled("test_mask").tolist() == [False, False, False, True, False]
    for array in (graph.indptr, graph.indices, graph.x_indptr, graph.x_indices, graph.y):
        assert array is not None
        assert array.dtype == np.int64


def test_packed_bits_equal_index_lists(tmp_path: Path) -> None:
    lists = load_graph(str(write(tmp_path, node_set())))
    bits = np.packbits(dense(lists)[1].astype(np.bool_), axis=1)
    arrays = node_set(x_indptr=None, x_indices=None, x_bits=bits)
    assert same(load_graph(str(write(tmp_path, arrays))), lists)


def test_zeros_are_dropped_and_ones_are_binary(tmp_path: Path) -> None:
    zeros = np.array([1, 0, 1, 1, 0, 1], np.uint8)
    graph = load_graph(str(write(tmp_path, node_set(x_data=zeros))))
    assert graph.x_values is None
    assert graph.x_indptr.tolist() == [0, 1, 2, 3, 4, 4]
    assert graph.x_indices.tolist() == [0, 3, 1, 4]
    real = np.array([0.5, 0, -1, 1, 2, 3], np.float32)
    graph = load_graph(str(write(tmp_path, node_set(x_data=real))))
    assert graph.x_values is not None
    assert graph.x_values.tolist() == [0.5, -1, 1, 2, 3]


def test_stored_self_loop_is_kept(tmp_path: Path) -> None:
    arrays = node_set(indptr=np.array([0, 2, 4, 6, 7, 7]), indices=np.array([0, 1, 0, 2, 1, 3, 2]))
    graph = load_graph(str(write(tmp_path, arrays)))
    assert graph.degrees.tolist() == [2, 2, 2, 1, 0]
    assert np.array_equal(np.diff(with_self_loops(graph)[0]), [2, 3, 3, 2, 1])


NAN, INFINITY = np.full(6, np.nan, np.float32), np.full(6, np.inf, np.float32)
REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"indptr": None}, "indptr", "missing"),
    ({"indptr": np.zeros(6)}, "indptr", "wrong type float64"),
    ({"indptr": np.array([0, 1, 3, 5, 6])}, "indptr", r"shape \[5\], expected \[6\]"),
    ({"indptr": np.array([1, 1, 3, 5, 6, 6])}, "indptr", "does not start at 0"),
    ({"indptr": np.array([0, 3, 1, 5, 6, 6])}, "indptr", "decreases after row 1"),
    ({"indptr": np.array([0, 1, 3, 5, 6, 7])}, "indptr", "ends at 7, but indices holds 6"),
    ({"indptr": np.array([0, 1, 3, 5, 6, 2**64 - 1], np.uint64)}, "indptr", "not all in"),
    ({"indices": None}, "indices", "missing"),
    ({"indices": np.array([1, 0, 2, 1, 5, 2])}, "indices", r"values 0\.\.5 are not all in 0\.\.4"),
    ({"indices": np.array([1, 0, 2, 1, 3, -1])}, "indices", "not all in"),
    ({"indices": np.array([1, 2, 0, 1, 3, 2])}, "indices", "columns do not ascend in row 1"),
    ({"indices": np.array([1, 0, 0, 1, 3, 2])}, "indices", "column 0 repeats in row 1"),
    ({"indices": np.zeros((6, 1), np.int32)}, "indices", "shape"),
    ({"x_shape": None}, "x_shape", "missing"),
    ({"x_shape": np.array([5])}, "x_shape", "shape"),
    ({"x_shape": np.array([0, 9])}, "x_shape", "not all in"),
    ({"x_shape": np.array([5, 2**31])}, "x_shape", "not all in"),
    ({"x_shape": np.array([5, 8])}, "x_indices", "not all in"),
    ({"x_shape": np.array([4, 9])}, "indptr", "shape"),
    ({"x_indptr": None}, "x_indptr", "missing"),
    ({"x_indices": np.array([0, 0, 3, 1, 2, 4])}, "x_indices", "column 0 repeats in row 0"),
    ({"x_bits": np.zeros((5, 1), np.uint8)}, "x_bits", r"shape \[5, 1\], expected \[5, 2\]"),
    ({"x_bits": np.zeros((5, 2), np.uint16)}, "x_bits", "wrong type uint16"),
    ({"x_bits": np.full((5, 2), 255, np.uint8)}, "x_bits", "beyond the 9 features"),
    ({"x_data": NAN}, "x_data", "NaN"),
    ({"x_data": INFINITY}, "x_data", "infinity"),
    ({"x_data": np.full(6, 1e39)}, "x_data", "beyond float32"),
    ({"x_data": np.ones(5, np.float32)}, "x_data", "shape"),
    ({"x_data": np.ones(6, np.complex64)}, "x_data", "wrong type complex64"),
    ({"x_known": np.ones(5, np.uint8)}, "x_known", "wrong type uint8"),
    ({"y": np.array([0, 1, 0, 1, -2])}, "y", r"not all in -1\.\.32767"),
    ({"y": np.array([0, 1, 0, 1, 40000])}, "y", "not all in"),
    ({"y": np.array([0.0, 1, 0, 1, 0])}, "y", "wrong type float64"),
    ({"y": np.zeros(4, np.int8)}, "y", "shape"),
    ({"train_mask": np.ones(4, np.bool_)}, "train_mask", "shape"),
    ({"val_mask": np.ones(5, np.int8)}, "val_mask", "wrong type int8"),
    ({"y": np.array([None] * 5, object)}, "y", "object arrays"),
    ({"node_ptr": np.zeros(3, np.int32)}, "node_ptr", "a set of many graphs, not one"),
]


@pytest.mark.parametrize(("changes", "field", "reason"), REFUSALS)
def test_refusals(tmp_path: Path, changes: dict[str, Any], field: str, reason: str) -> None:
    path = write(tmp_path, node_set(**changes))
    assert re.match(f"{re.escape(str(path))}: {field}: .*{reason}", refusal(path))


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    assert "no such graph" in refusal(tmp_path / "absent.npz")
    assert "no such graph" in refusal("")
    text = tmp_path / "text.npz"
    text.write_text("not an archive")
    assert refusal(text) == f"{text}: not a readable .npz archive"


SPLITS: Arrays = {
    "split_train": np.array([[0, 1], [2, 3]], np.int32),
    "split_val": np.array([[2], [0]], np.int32),
    "lcc": np.array([1, 1, 1, 1, 0], np.bool_),
}


def test_random_splits(tmp_path: Path) -> None:
    path = str(write(tmp_path, node_set(train_mask=None, **SPLITS)))
    first, second = load_graph(path), load_graph(path, split=1)
    assert [np.flatnonzero(getattr(first, mask)).tolist() for mask in MASKS] == [[0, 1], [2], [3]]
    assert [np.flatnonzero(getattr(second, mask)).tolist() for mask in MASKS] == [[2, 3], [0], [1]]


@pytest.mark.parametrize(
    ("changes", "split", "field"),
    [
        ({}, 1, "split_train"),
        (SPLITS, 2, "split_train"),
        (SPLITS, -1, "split_train"),
        (SPLITS | {"split_val": None}, 0, "split_val"),
        (SPLITS | {"split_val": np.array([[2]])}, 0, "split_val"),
        (SPLITS | {"split_val": np.array([[0], [0]])}, 0, "split_val"),
        (SPLITS | {"split_train": np.array([[0, 5], [2, 3]])}, 0, "split_train"),
        (SPLITS | {"lcc": np.ones(4, np.bool_)}, 0, "lcc"),
    ],
)
def test_split_refusals(tmp_path: Path, changes: dict[str, Any], split: int, field: str) -> None:
    path = write(tmp_path, node_set(**changes))
    assert refusal(path, split=split).startswith(f"{path}: {field}: ")


def test_names_come_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, node_set(), "tiny")
    monkeypatch.setenv("SGQ_HW_DATA", str(tmp_path))
    assert load_graph("tiny").name == "tiny"
    assert refusal("tinny").endswith(f"no data set in {tmp_path}")
    monkeypatch.setenv("SGQ_HW_DATA", str(tmp_path / "absent"))
    assert "SGQ_HW_DATA" in refusal("tiny")


def test_karate() -> None:
    graph = load_graph("karate")
    adjacency, features = dense(graph)
    assert (graph.num_nodes, graph.num_edges, graph.num_classes) == (34, 156, 2)
    assert np.array_equal(adjacency, adjacency.T)
    assert np.array_equal(features, np.eye(34))
    assert [int(graph.labelled(mask).sum()) for mask in MASKS] == [8, 8, 18]
    assert graph.y is not None
    assert (graph.y[0], graph.y[33]) == (0, 1)  # the instructor and the officer
    assert refusal("karate", split=1) == "karate: split: 1 is not 0, its only split"


def test_networkx_attributes_and_direction() -> None:
    source: nx.DiGraph[str] = nx.DiGraph([("b", "a"), ("c", "a"), ("c", "c")])
    source.add_node("d")
    for position, node in enumerate(source):
        source.nodes[node]["x"] = np.array([0.0, position])
    source.nodes["a"]["y"] = 3
    graph = graph_from_networkx(source, "named")  # node order b, a, c, d
    adjacency, features = dense(graph)
    assert graph.name == "named"
    assert graph.y is not None
    assert graph.y.tolist() == [-1, 3, -1, -1]
    assert features.tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert np.argwhere(adjacency).tolist() == [[1, 0], [1, 2], [2, 2]]


def test_networkx_refusals() -> None:
    ragged: nx.Graph[int] = nx.path_graph(2)
    ragged.nodes[0]["x"] = [1.0]
    with pytest.raises(InputError, match="g: x: not one numeric array"):
        graph_from_networkx(ragged, "g")
    ragged.nodes[1]["x"] = [1.0, 2.0]
    with pytest.raises(InputError, match="g: x: not one numeric array"):
        graph_from_networkx(ragged, "g")
    empty: nx.Graph[int] = nx.Graph()
    with pytest.raises(InputError, match="g: x_shape: "):
        graph_from_networkx(empty, "g")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Small directed graphs, with self loops, empty rows, and features of every kind."""
    n = draw(st.integers(1, 8))
    width = draw(st.integers(1, 5))
    source: nx.DiGraph[int] = nx.DiGraph()
    value = draw(
        st.sampled_from(
            [st.just(1.0), st.integers(0, 255).map(float), st.floats(-1e6, 1e6, width=32)]
        )
    )
    row = st.lists(value | st.just(0.0), min_size=width, max_size=width)
    for node in range(n):
        source.add_node(node, x=draw(row), y=draw(st.integers(-1, 3)))
    nodes = st.integers(0, n - 1)
    source.add_edges_from(draw(st.lists(st.tuples(nodes, nodes), max_size=20)))
    return graph_from_networkx(source, draw(st.text(max_size=5).filter(str.isprintable)))


@given(graphs())
def test_arrays_round_trip(graph: Graph) -> None:
    arrays = graph_to_arrays(graph)
    assert same(graph_from_arrays(arrays, "file"), graph)
    assert all(array.dtype.kind in "biuf" for array in arrays.values())


@given(graphs())
def test_self_loops_and_row_factors_against_dense(graph: Graph) -> None:
    adjacency, features = dense(graph)
    indptr, indices = with_self_loops(graph)
    expected = [np.flatnonzero(row) for row in adjacency + np.eye(graph.num_nodes)]
    assert indptr.tolist() == np.cumsum([0] + [row.size for row in expected]).tolist()
    assert np.array_equal(indices, np.concatenate(expected))
    factors = input_row_factors(graph)
    assert np.isfinite(factors).all()
    if (features < 0).any():
        assert np.array_equal(factors, np.ones(graph.num_nodes))
    else:
        sums = (features * factors[:, None]).sum(axis=1)
        usable = features.sum(axis=1) >= np.finfo(np.float32).tiny
        assert np.allclose(sums, usable)


def test_arrays_of_a_whole_graph() -> None:
    graph = load_graph("karate")
    arrays = graph_to_arrays(graph)
    assert same(graph_from_arrays(arrays | {"other": np.zeros(1)}, "file"), graph)
    assert arrays["graph/indices"].dtype == np.uint8
    assert "graph/x_values" not in arrays


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("graph/indptr", None, "missing"),
        ("graph/indptr", np.zeros(1, np.int8), "no nodes"),
        ("graph/name", None, "missing"),
        ("graph/name", np.array([255], np.uint8), "not UTF-8"),
        ("graph/name", np.array([65], np.uint16), "wrong type"),
        ("graph/name", np.array([65, 10], np.uint8), "control characters"),
        ("graph/num_features", np.array([34]), "shape"),
        ("graph/num_features", np.array(33), "not all in"),
        ("graph/x_values", np.full(34, np.nan), "NaN"),
        ("graph/train_mask", np.ones(34, np.uint8), "wrong type"),
        ("graph/y", np.full(34, 2.0), "wrong type"),
        ("graph/colour", np.zeros(3), "unknown field"),
    ],
)
def test_array_refusals(name: str, value: npt.NDArray[Any] | None, reason: str) -> None:
    arrays = graph_to_arrays(load_graph("karate"))
    arrays.pop(name, None)
    if value is not None:
        arrays[name] = value
    # A feature width that is too small shows in the indices, not in the width itself.
    field = "graph/x_indices" if reason == "not all in" else name
    with pytest.raises(InputError, match=f"^file: {field}: .*{reason}"):
        graph_from_arrays(arrays, "file")


@pytest.mark.parametrize(
    ("name", "counts", "split", "binary"),
    [
        ("cora", (2708, 10556, 1433, 7), [140, 500, 1000], True),
        ("citeseer", (3327, 9104, 3703, 6), [120, 500, 1000], True),
        ("amazon_computers", (13752, 491722, 767, 10), [200, 300, 12881], True),
        ("dblp", (17716, 105734, 1639, 4), [80, 120, 15991], False),
        ("pubmed_topology", (19717, 88648, 500, 3), [60, 500, 1000], False),
    ],
)
def test_data_sets(
    data_folder: Path, name: str, counts: tuple[int, ...], split: list[int], binary: bool
) -> None:
    graph = load_graph(str(data_folder / f"{name}.npz"))
    found = (graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes)
    assert found == counts
    assert [int(graph.labelled(mask).sum()) for mask in MASKS] == split
    assert (graph.x_values is None) == binary
    assert graph.features_complete == (name != "pubmed_topology")
    assert same(graph_from_arrays(graph_to_arrays(graph), name), graph)


def test_citeseer_degenerate_rows(data_folder: Path) -> None:
    graph = load_graph(str(data_folder / "citeseer.npz"))
    empty = np.diff(graph.x_indptr) == 0
    assert (int((graph.degrees == 0).sum()), int(empty.sum())) == (48, 15)
    assert graph.y is not None
    assert np.array_equal(graph.y == -1, empty)
    assert np.array_equal(input_row_factors(graph) == 0, empty)


@pytest.mark.parametrize("name", ["mutag", "proteins", "molhiv"])
def test_graph_sets_are_refused(data_folder: Path, name: str) -> None:
    assert "a set of many graphs, not one" in refusal(data_folder / f"{name}.npz")
