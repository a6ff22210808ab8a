"""Raw Planetoid folders: written here in every pickle dialect, read back, and refused."""

import pickle
import struct
from collections import defaultdict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sgq_hw.errors import InputError
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.node_sets import MASKS

CLASSES = 3
TRAIN, ALL, NODES = 6, 510, 515  # val: nodes 6..505; neither: 506..509
TEST = [514, 510, 513, 511]  # node 512 is a gap, as in Citeseer


def python2(content: object) -> bytes:
    """Pickle as Python 2 did: old module names, and NumPy's bytes as a `str` (Latin-1 to us)."""
    stream = BytesIO()
    pickler: Any = pickle._Pickler(stream, protocol=2, fix_imports=True)

    def save_bytes(_: object, value: bytes) -> None:
        pickler.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        pickler.memoize(value)

    pickler.dispatch = pickler.dispatch | {bytes: save_bytes}
    pickler.dump(content)
    old = stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return old.replace(b"scipy.sparse._csr", b"scipy.sparse.csr")


def parts() -> dict[str, Any]:
    """The content of a small set: binary features, one-hot labels, an untidy graph."""
    rng = np.random.default_rng(1)
    allx = sparse.csr_matrix((rng.random((ALL, 11)) < 0.2).astype(np.float32))
    tx = sparse.csr_matrix((rng.random((len(TEST), 11)) < 0.5).astype(np.float32))
    graph: defaultdict[int, list[int]] = defaultdict(list)
    for node in range(NODES - 1):
        graph[node] = [node + 1]  # one direction only: the reader makes it symmetric
    graph[0] += [1, 0, 5]  # a duplicate and a self loop
    one_hot = np.eye(CLASSES, dtype=np.int32)
    return {
        "x": allx[:TRAIN],
        "tx": tx,
        "allx": allx,
        "y": one_hot[np.arange(TRAIN) % CLASSES],
        "ty": one_hot[[0, 1, 2, 0]],
        "ally": one_hot[np.arange(ALL) % CLASSES],
        "graph": graph,
    }


def write(
    folder: Path, content: dict[str, Any], dump: Callable[[object], bytes] = pickle.dumps
) -> Path:
    folder.mkdir(exist_ok=True)
    for part, value in content.items():
        (folder / f"ind.tiny.{part}").write_bytes(dump(value))
    (folder / "ind.tiny.test.index").write_text("".join(f"{node}\n" for node in TEST))
    return folder


def read(path: Path) -> Graph:
    return load_graph(str(path), allow_pickle=True)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "dump",
    [
        python2,
        *(lambda content, p=p: pickle.dumps(content, protocol=p) for p in range(6)),
    ],
    ids=["python2", *(f"protocol{p}" for p in range(6))],
)
def test_round_trip(tmp_path: Path, dump: Callable[[object], bytes]) -> None:
    content = parts()
    graph = read(write(tmp_path / "raw", content, dump))
    assert (graph.name, graph.num_nodes, graph.num_features) == ("tiny", NODES, 11)
    assert graph.x_values is None

    features = np.zeros((NODES, 11))
    features[:ALL] = content["allx"].toarray()
    features[TEST] = content["tx"].toarray()
    stored = sparse.csr_array(
        (np.ones(graph.x_indices.size), graph.x_indices, graph.x_indptr), shape=features.shape
    )
    assert np.array_equal(stored.toarray(), features)

    neighbours = [set(graph.indices[graph.indptr[i] : graph.indptr[i + 1]]) for i in range(NODES)]
    assert neighbours[0] == {1, 5}
    assert neighbours[5] == {0, 4, 6}
    assert neighbours[NODES - 1] == {NODES - 2}
    assert graph.num_edges == 2 * NODES

    assert graph.y is not None
    assert graph.y[:4].tolist() == [0, 1, 2, 0]
    assert graph.y[510:].tolist() == [1, 0, -1, 2, 0]
    masks = [np.flatnonzero(getattr(graph, mask)).tolist() for mask in MASKS]
    assert masks == [list(range(6)), list(range(6, 506)), sorted(TEST)]


def test_one_file_names_the_set(tmp_path: Path) -> None:
    folder = write(tmp_path, parts())
    assert read(folder / "ind.tiny.graph").name == "tiny"
    (folder / "ind.other.graph").write_bytes(b"")
    assert "holds other, tiny; give" in refusal(folder)
    assert read(folder / "ind.tiny.allx").num_nodes == NODES


def test_pickles_need_the_flag(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ind\.tiny\.graph: pickled; give --allow-pickle"):
        load_graph(str(write(tmp_path, parts())))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: ind.NAME.graph: missing")


class Hostile:
    """Creates a file when unpickled by `pickle.load`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for part in parts():
        folder = write(tmp_path / part, parts() | {part: Hostile(marker)})
        if part != "x":  # never read
            assert f"{folder / f'ind.tiny.{part}'}: pickle: not plain arrays" in refusal(folder)
    nested = parts() | {"graph": {0: [Hostile(marker)]}}
    assert "not plain arrays and lists: " in refusal(write(tmp_path / "nested", nested))
    objects = parts() | {"ty": np.array([[Hostile(marker)]], dtype=object)}
    assert "not plain arrays and lists" in refusal(write(tmp_path / "objects", objects))
    assert not marker.exists()


def features(**changes: Any) -> sparse.csr_matrix[np.float32]:
    """`tx` with some of its arrays replaced, unchecked, as a damaged file might have them."""
    matrix: sparse.csr_matrix[np.float32] = parts()["tx"]
    for name, value in changes.items():
        setattr(matrix, name, value)
    return matrix


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("tx", np.ones((4, 11)), "pickle: not a SciPy CSR matrix"),
        ("tx", features(indptr=np.array([0, 9, 3, 4, 5])), "indptr: decreases after row 1"),
        ("tx", features(indices=np.full(25, 11)), "indices: "),
        ("tx", features(data=np.full(1, np.nan, np.float32)), "data: "),
        ("tx", features(_shape=(4,)), "shape: missing or not two counts"),
        ("tx", sparse.csr_matrix(np.ones((4, 12))), "12 columns, allx 11"),
        ("tx", sparse.csr_matrix(np.ones((3, 11))), "4 nodes, tx 3"),
        ("allx", sparse.csr_matrix(np.ones((3, 11))), "510 rows, allx has 3"),
        ("ty", [[1, 0]], "pickle: not a NumPy array"),
        ("ty", np.ones(4), "labels: shape"),
        ("ty", np.ones((4, 3)), "labels: not one-hot"),
        ("ty", np.full((4, 3), 2), "labels: not one-hot"),
        ("ty", np.zeros((4, 0)), "labels: not one-hot"),
        ("graph", [[1], [0]], "pickle: not a dictionary of lists"),
        ("graph", {0: [-1]}, "pickle: not a dictionary of lists"),
        ("graph", {0: ["1"]}, "pickle: not a dictionary of lists"),
        ("graph", {"0": [1]}, "pickle: not a dictionary of lists"),
    ],
)
def test_refusals(tmp_path: Path, part: str, value: object, reason: str) -> None:
    message = refusal(write(tmp_path, parts() | {part: value}))
    assert message.startswith(str(tmp_path))
    assert reason in message


@pytest.mark.parametrize("index", ["509 511 512 513", "510 510 511 512", "510 511", "a b c d"])
def test_bad_test_index(tmp_path: Path, index: str) -> None:
    write(tmp_path, parts())
    (tmp_path / "ind.tiny.test.index").write_text(index)
    assert "test.index: " in refusal(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    whole = (write(tmp_path, parts()) / "ind.tiny.allx").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "ind.tiny.allx").write_bytes(whole[:length])
        assert refusal(tmp_path).startswith(f"{tmp_path / 'ind.tiny.allx'}: ")
    (tmp_path / "ind.tiny.allx").unlink()
    assert "ind.tiny.allx: cannot read: No such file" in refusal(tmp_path)
