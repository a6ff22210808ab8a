"""Graphs with node features, labels and splits: the type, its checks, and where they come from.

An adjacency row lists the nodes that a node aggregates from, so its length is the in-degree.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.fields import (
    MAX_COUNT,
    BoolArray,
    Fields,
    FloatArray,
    IntArray,
    compact_integers,
    utf8_array,
)
from sgq_hw.node_sets import MASKS, read_features, read_masks, row_starts
from sgq_hw.npz import read_npz
from sgq_hw.planetoid import is_planetoid, read_planetoid

if TYPE_CHECKING:
    import networkx as nx

DATA_VARIABLE: Final = "SGQ_HW_DATA"
MAX_LABEL: Final = 32767
KARATE_SPLIT: Final = (4, 4)  # training and validation nodes a class

GRAPH_KEYS: Final = tuple(
    f"graph/{name}"
    for name in (
        "name", "num_features", "indptr", "indices", "x_indptr", "x_indices", "x_values",
        "x_known", "y", *MASKS,
    )
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph of `n` nodes, `e` directed edges and `num_features` features a node.

    Attributes:
        name: what the user calls it; printed, and selects the training recipe.
        indptr: int64 [n + 1], start of each adjacency row in `indices`.
        indices: int64 [e], source nodes, ascending in each row. Stored self loops are kept.
        x_indptr: int64 [n + 1], start of each feature row in `x_indices`.
        x_indices: int64 [nnz], feature columns, ascending in each row.
        x_values: float64 [nnz], raw (not row-normalised), or None where all are one (binary).
        num_features: width of a feature row.
        y: int64 [n], class of each node, -1 where it has none; None for a graph without labels.
        train_mask: bool [n] or None; val_mask and test_mask likewise.
        x_known: bool [n], nodes whose features are known; None where all are.
    """

    name: str
    indptr: IntArray
    indices: IntArray
    x_indptr: IntArray
    x_indices: IntArray
    x_values: FloatArray | None
    num_features: int
    y: IntArray | None = None
    train_mask: BoolArray | None = None
    val_mask: BoolArray | None = None
    test_mask: BoolArray | None = None
    x_known: BoolArray | None = None

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.indptr.size - 1

    @property
    def num_edges(self) -> int:
        """Number of stored directed edges, stored self loops included."""
        return self.indices.size

    @property
    def degrees(self) -> IntArray:
        """In-degree: int64 [n], length of each stored adjacency row."""
        return np.diff(self.indptr)

    @property
    def num_classes(self) -> int:
        """Highest label plus one; 0 without labels."""
        return 0 if self.y is None else int(self.y.max()) + 1

    @property
    def features_complete(self) -> bool:
        """Whether every node's features are known. Where not, only cycles and memory mean much."""
        return self.x_known is None or bool(self.x_known.all())

    def labelled(self, mask: str) -> BoolArray:
        """Return bool [n]: the nodes of `mask` (a name of `MASKS`) that have a label."""
        selected: BoolArray | None = getattr(self, mask)
        if selected is None or self.y is None:
            return np.zeros(self.num_nodes, dtype=np.bool_)
        return selected & (self.y >= 0)


def data_folder() -> Path | None:
    """Return the folder of data sets, or None where there is none.

    It is `SGQ_HW_DATA` if that is set, else `../shared/data` beside a checkout.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        folder = Path(named)
    else:
        root = Path(__file__).resolve().parent.parent
        if not (root / "pyproject.toml").is_file():  # installed, not a checkout
            return None
        folder = root.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def load_graph(spec: str, *, split: int = 0, allow_pickle: bool = False) -> Graph:
    """Load a graph.

    Args:
        spec: `karate`; the name of a file in the data folder, without `.npz` (a bare name means
            the data set even where a file of that name lies in the working folder); the path of
            an `.npz` of the documented form; or a raw Planetoid folder.
        split: which of a file's random splits becomes the masks; 0 where there is only one.
        allow_pickle: read Planetoid's pickles (with a restricted unpickler).

    Raises:
        InputError: nothing of that name, or a file that is not valid; names file and field.
    """
    if spec == "karate":
        if split != 0:
            raise InputError(f"karate: split: {split} is not 0, its only split")
        return karate_club()
    path = find_data(spec)
    if is_planetoid(path):
        name, arrays = read_planetoid(path, allow_pickle=allow_pickle)
        return _documented_form(Fields(arrays, f"{path}: ind.{name}"), name, split)
    return _documented_form(Fields(read_npz(path), str(path)), path.stem, split)


def find_data(spec: str) -> Path:
    """Return the file or folder that `spec` means: a data set by name, or a path.

    Raises:
        InputError: nothing of that name.
    """
    path = Path(spec)
    folder = data_folder()
    if folder is not None and spec == path.name and (folder / f"{spec}.npz").is_file():
        return folder / f"{spec}.npz"
    if spec and path.exists():
        return path
    where = f"in {folder}" if folder else f"in a data folder ({DATA_VARIABLE} names none)"
    raise InputError(f"{spec}: no such graph: not karate, no file or folder, no data set {where}")


def _documented_form(fields: Fields, name: str, split: int) -> Graph:
    """Check and convert one node set of the documented `.npz` form."""
    if "node_ptr" in fields:
        fields.fail("node_ptr", "a set of many graphs, not one: it has folds (--fold), not splits")
    nodes, num_features = fields.integers("x_shape", (2,), 1)
    n, width = int(nodes), int(num_features)
    indptr, indices = fields.csr("indptr", "indices", n, n)
    x_indptr, x_indices, x_values = read_features(fields, n, width)
    y = fields.integers("y", (n,), -1, MAX_LABEL) if "y" in fields else None
    train_mask, val_mask, test_mask = read_masks(fields, n, split, y)
    return Graph(
        name=name,
        indptr=indptr,
        indices=indices,
        x_indptr=x_indptr,
        x_indices=x_indices,
        x_values=x_values,
        num_features=width,
        y=y,
        train_mask=train_mask,
        val_mask=val_mask,
        test_mask=test_mask,
        x_known=fields.booleans("x_known", n) if "x_known" in fields else None,
    )


def graph_from_networkx(graph: "nx.Graph[Any] | nx.DiGraph[Any]", name: str = "graph") -> Graph:
    """Convert a NetworkX graph, nodes numbered in its own order.

    A row holds a node's neighbours (of a directed graph its predecessors); weights are ignored
    and parallel edges count once. Node attributes: `x`, a one-dimensional numeric array, on all
    nodes or on none (then each node is its own one-hot feature); `y`, an integer class, -1 or
    absent for none.

    Raises:
        InputError: no nodes, or attributes that do not fit together.
    """
    import networkx as nx  # noqa: PLC0415

    number = {node: position for position, node in enumerate(graph.nodes)}
    sources = graph.pred if isinstance(graph, nx.DiGraph) else graph.adj
    rows = [sorted(number[source] for source in sources[node]) for node in graph.nodes]
    n = len(rows)
    arrays: dict[str, npt.NDArray[Any]] = {
        "indptr": row_starts(np.array([len(row) for row in rows], dtype=np.int64)),
        "indices": np.array([column for row in rows for column in row], dtype=np.int64),
    }
    attributes = [attributes for _, attributes in graph.nodes(data=True)]
    if not any("x" in node for node in attributes):
        arrays |= {"x_indptr": np.arange(n + 1), "x_indices": np.arange(n)}
        arrays["x_shape"] = np.array([n, n])
    else:
        try:
            x = np.array([node.get("x") for node in attributes], dtype=np.float64).reshape(n, -1)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: x: not one numeric array of one length a node") from error
        row_of, columns = np.nonzero(x)
        arrays |= {"x_indptr": row_starts(np.bincount(row_of, minlength=n)), "x_indices": columns}
        arrays |= {"x_data": x[row_of, columns], "x_shape": np.array(x.shape)}
    if any("y" in node for node in attributes):
        arrays["y"] = np.array([node.get("y", -1) for node in attributes])
    return _documented_form(Fields(arrays, name), name, 0)


def karate_club() -> Graph:
    """Return Zachary's karate club (1977): 34 nodes, one-hot features, 2 classes.

    Split: of each class, in node order, the first 4 train, the next 4 validate, 9 test.
    """
    import networkx as nx  # noqa: PLC0415

    club = nx.karate_club_graph()
    for _, attributes in club.nodes(data=True):
        attributes["y"] = 0 if attributes["club"] == "Mr. Hi" else 1
    graph = graph_from_networkx(club, "karate")
    if graph.y is None:
        raise InputError("karate: y: this networkx stores no clubs")
    position = np.empty(graph.num_nodes, dtype=np.int64)  # of each node inside its class
    for label in range(graph.num_classes):
        members = np.flatnonzero(graph.y == label)
        position[members] = np.arange(members.size)
    train, val = KARATE_SPLIT
    return replace(
        graph,
        train_mask=position < train,
        val_mask=(position >= train) & (position < train + val),
        test_mask=position >= train + val,
    )


def with_self_loops(graph: Graph) -> tuple[IntArray, IntArray]:
    """Return CSR (indptr [n + 1], indices, both int64) of A + I; a stored loop counts once."""
    n = graph.num_nodes
    row_of = np.repeat(np.arange(n), graph.degrees)
    # One code a position. np.union1d hashes them, which takes ten times as long.
    codes = np.sort(np.concatenate([row_of * n + graph.indices, np.arange(n) * (n + 1)]))
    rows, indices = np.divmod(codes[np.diff(codes, prepend=-1) > 0], n)
    return row_starts(np.bincount(rows, minlength=n)), indices


def input_row_factors(graph: Graph) -> FloatArray:
    """Return float64 [n]: what each feature row is multiplied by before the network.

    Where all features are non-negative the factor is one over the row's sum, so that rows sum to
    one (Kipf & Welling 2017, section 5.2); empty rows have factor 0. Else all factors are 1.
    """
    n = graph.num_nodes
    row_of = np.repeat(np.arange(n), np.diff(graph.x_indptr))
    if graph.x_values is not None and np.any(graph.x_values < 0):
        return np.ones(n)
    sums = np.bincount(row_of, weights=graph.x_values, minlength=n).astype(np.float64)
    # Sums below float32's normal range have no usable inverse there: such a row counts as empty.
    usable = sums >= np.finfo(np.float32).tiny
    return np.divide(1.0, sums, out=np.zeros(n), where=usable)


def graph_to_arrays(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    """Return the graph as arrays under `graph/...`, in the smallest types that hold them.

    Every integer field takes the smallest integer type, masks are bool, `graph/x_values` the
    first of uint8, float32 and float64 that is exact. Fields that are None are left out.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "graph/name": utf8_array(graph.name),
        "graph/num_features": np.array(graph.num_features, dtype=np.int64),
    }
    for name in ("indptr", "indices", "x_indptr", "x_indices", "y"):
        values: IntArray | None = getattr(graph, name)
        if values is not None:
            arrays[f"graph/{name}"] = compact_integers(values)
    for name in ("x_known", *MASKS):
        mask: BoolArray | None = getattr(graph, name)
        if mask is not None:
            arrays[f"graph/{name}"] = mask
    if graph.x_values is not None:
        arrays["graph/x_values"] = _compact_reals(graph.x_values)
    return arrays


def _compact_reals(values: FloatArray) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):  # a cast that does not fit is not chosen
        for dtype in (np.uint8, np.float32):
            narrow = values.astype(dtype)
            if np.array_equal(narrow, values):
                return narrow
    return values


def graph_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], where: str) -> Graph:
    """Read what `graph_to_arrays` wrote, with all checks; fields outside `graph/` are ignored.

    Args:
        arrays: the content of a file.
        where: the file, for messages.

    Raises:
        InputError: a field that is missing, unknown or wrong; names `where` and the field.
    """
    fields = Fields({k: v for k, v in arrays.items() if k.startswith("graph/")}, where)
    fields.only(GRAPH_KEYS)
    starts = fields.array("graph/indptr", "iu", (None,))
    n = starts.size - 1
    if n < 1:
        fields.fail("graph/indptr", "no nodes")
    num_features = int(fields.integers("graph/num_features", (), 1, MAX_COUNT))
    indptr, indices = fields.csr("graph/indptr", "graph/indices", n, n)
    x_indptr, x_indices = fields.csr("graph/x_indptr", "graph/x_indices", n, num_features)
    masks = {
        name: fields.booleans(f"graph/{name}", n) if f"graph/{name}" in fields else None
        for name in ("x_known", *MASKS)
    }
    return Graph(
        name=fields.text("graph/name"),
        indptr=indptr,
        indices=indices,
        x_indptr=x_indptr,
        x_indices=x_indices,
        x_values=fields.reals("graph/x_values", (x_indices.size,))
        if "graph/x_values" in fields
        else None,
        num_features=num_features,
        y=fields.integers("graph/y", (n,), -1, MAX_LABEL) if "graph/y" in fields else None,
        **masks,
    )
