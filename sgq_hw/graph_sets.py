"""Sets of small labelled graphs: one disjoint union, and folds for cross-validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.fields import MAX_COUNT, BoolArray, Fields, IntArray, compact_integers
from sgq_hw.graphs import (
    MAX_LABEL,
    Graph,
    find_data,
    graph_from_arrays,
    graph_to_arrays,
)
from sgq_hw.node_sets import MASKS, row_starts
from sgq_hw.npz import read_npz

FOLDS: Final = 10
SET_KEYS: Final = ("set/graph_of_node", "set/y", *(f"set/{mask}" for mask in MASKS))


@dataclass(frozen=True, eq=False)
class GraphSet:
    """Many graphs, each with a class, and which of them train, validate and test.

    Attributes:
        union: all graphs side by side, `n` nodes; no edge joins two of them. Without labels and
            masks, which belong to graphs here.
        graph_of_node: int64 [n], graph of each node, ascending; every graph has a node.
        y: int64 [graphs], class of each graph.
        train_mask: bool [graphs]; val_mask and test_mask likewise.
    """

    union: Graph
    graph_of_node: IntArray
    y: IntArray
    train_mask: BoolArray
    val_mask: BoolArray
    test_mask: BoolArray

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.union.name

    @property
    def num_graphs(self) -> int:
        """Number of graphs."""
        return self.y.size

    @property
    def num_features(self) -> int:
        """Width of a feature row."""
        return self.union.num_features

    @property
    def num_classes(self) -> int:
        """Highest label plus one."""
        return int(self.y.max()) + 1

    @property
    def node_ptr(self) -> IntArray:
        """First node of each graph, and the number of nodes: int64 [graphs + 1]."""
        return row_starts(np.bincount(self.graph_of_node, minlength=self.num_graphs))

    def labelled(self, mask: str) -> BoolArray:
        """Return bool [graphs]: the graphs of `mask` (a name of `MASKS`)."""
        selected: BoolArray = getattr(self, mask)
        return selected

    def subset(self, selected: BoolArray) -> "GraphSet":
        """Return the set of the selected graphs, bool [graphs], in the same order."""
        nodes = selected[self.graph_of_node]
        number = np.cumsum(nodes) - 1  # of each kept node
        union = self.union
        edges = np.repeat(nodes, union.degrees)
        lengths = np.diff(union.x_indptr)
        stored = np.repeat(nodes, lengths)
        return GraphSet(
            union=Graph(
                name=union.name,
                indptr=row_starts(union.degrees[nodes]),
                indices=number[union.indices[edges]],
                x_indptr=row_starts(lengths[nodes]),
                x_indices=union.x_indices[stored],
                x_values=None if union.x_values is None else union.x_values[stored],
                num_features=union.num_features,
            ),
            graph_of_node=(np.cumsum(selected) - 1)[self.graph_of_node[nodes]],
            y=self.y[selected],
            train_mask=self.train_mask[selected],
            val_mask=self.val_mask[selected],
            test_mask=self.test_mask[selected],
        )


def stratified_folds(y: IntArray, *, folds: int = FOLDS, seed: int = 0) -> IntArray:
    """Return int64 [graphs], the fold of each graph; folds share each class as evenly as can be.

    The graphs of a class are shuffled and dealt out in turn, each class where the last one ended,
    so the sizes of two folds differ by at most one, and so do their shares of any class.
    """
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(y == c)) for c in np.unique(y)])
    fold = np.empty(y.size, dtype=np.int64)
    fold[order] = np.arange(y.size) % folds
    return fold


def load_graph_set(spec: str, *, fold: int = 0, seed: int = 0) -> GraphSet:
    """Load a set of graphs; node labels become one-hot features, other attributes are not read.

    Args:
        spec: the name of a file in the data folder, without `.npz`, or the path of an `.npz` of
            the documented form.
        fold: which of the ten stratified folds is the test; the next one validates.
        seed: of the folds, so that fold K is the same whatever seed a network is trained with.

    Raises:
        InputError: nothing of that name, no such fold, or a file that is not valid.
    """
    path = find_data(spec)
    fields = Fields(read_npz(path), str(path))
    if "node_ptr" not in fields:
        fields.fail("node_ptr", "missing: one graph, not a set of many; it has no folds")
    node_ptr = _starts(fields, "node_ptr")
    sizes = np.diff(node_ptr)
    if sizes.size < FOLDS:
        fields.fail("node_ptr", f"{sizes.size} graphs are too few for {FOLDS} folds")
    if not 0 <= fold < FOLDS:
        raise InputError(f"{spec}: fold: {fold} is not in 0..{FOLDS - 1}")
    if seed < 0:
        raise InputError(f"{spec}: seed: {seed} is not 0 or more")
    if not sizes.all():
        fields.fail("node_ptr", f"graph {int(np.argmin(sizes))} has no nodes")
    n = int(node_ptr[-1])
    indptr, indices = _union_edges(fields, node_ptr)
    labels = fields.integers("node_label", (n,), 0, MAX_LABEL)
    y = fields.integers("y", (sizes.size,), 0, MAX_LABEL)
    fold_of = stratified_folds(y, seed=seed)
    test, val = fold_of == fold, fold_of == (fold + 1) % FOLDS
    return GraphSet(
        union=Graph(
            name=path.stem,
            indptr=indptr,
            indices=indices,
            x_indptr=np.arange(n + 1),
            x_indices=labels,
            x_values=None,
            num_features=int(labels.max()) + 1,
        ),
        graph_of_node=np.repeat(np.arange(sizes.size), sizes),
        y=y,
        train_mask=~test & ~val,
        val_mask=val,
        test_mask=test,
    )


def _starts(fields: Fields, name: str) -> IntArray:
    """Return row starts: ascending from 0."""
    starts = fields.integers(name, (None,), 0, MAX_COUNT)
    if starts.size < 2:
        fields.fail(name, "no graphs")
    if starts[0] != 0:
        fields.fail(name, "does not start at 0")
    if np.any(np.diff(starts) < 0):
        fields.fail(name, f"decreases after graph {int(np.argmax(np.diff(starts) < 0))}")
    return starts


def _union_edges(fields: Fields, node_ptr: IntArray) -> tuple[IntArray, IntArray]:
    """Return CSR (indptr, indices) of the union from `edge_ptr` and `edge_index`.

    `edge_index` holds sources and targets, numbered inside each graph, sorted by target, then by
    source.
    """
    edge_ptr = _starts(fields, "edge_ptr")
    sizes = np.diff(node_ptr)
    if edge_ptr.size != node_ptr.size:
        fields.fail("edge_ptr", f"{edge_ptr.size - 1} graphs, but node_ptr has {sizes.size}")
    local = fields.integers("edge_index", (2, int(edge_ptr[-1])), 0)
    graph = np.repeat(np.arange(sizes.size), np.diff(edge_ptr))
    beyond = (local >= sizes[graph]).any(axis=0)
    if beyond.any():
        where = int(graph[np.argmax(beyond)])
        fields.fail("edge_index", f"a node beyond the {sizes[where]} of graph {where}")
    n = int(node_ptr[-1])
    sources, targets = local + node_ptr[graph]
    codes = targets * n + sources
    unsorted = codes[1:] <= codes[:-1]
    if unsorted.any():
        where = int(graph[np.argmax(unsorted)])
        fields.fail("edge_index", f"not in ascending order, or repeating, in graph {where}")
    return row_starts(np.bincount(targets, minlength=n)), sources


def graph_set_to_arrays(graphs: GraphSet) -> dict[str, npt.NDArray[Any]]:
    """Return the set as arrays: its union under `graph/...`, the rest under `set/...`."""
    return {
        **graph_to_arrays(graphs.union),
        "set/graph_of_node": compact_integers(graphs.graph_of_node),
        "set/y": compact_integers(graphs.y),
        **{f"set/{mask}": graphs.labelled(mask) for mask in MASKS},
    }


def graph_set_from_arrays(arrays: Mapping[str, npt.NDArray[Any]], where: str) -> GraphSet:
    """Read what `graph_set_to_arrays` wrote, with all checks; other fields are ignored.

    Args:
        arrays: the content of a file.
        where: the file, for messages.

    Raises:
        InputError: a field that is missing, unknown or wrong; names `where` and the field.
    """
    union = graph_from_arrays(arrays, where)
    fields = Fields({k: v for k, v in arrays.items() if k.startswith("set/")}, where)
    fields.only(SET_KEYS)
    n = union.num_nodes
    y = fields.integers("set/y", (None,), 0, MAX_LABEL)
    if not y.size:
        fields.fail("set/y", "no graphs")
    graph_of_node = fields.integers("set/graph_of_node", (n,), 0, y.size - 1)
    # From 0 to the last graph in steps of 0 or 1: ascending, and no graph without nodes.
    steps = np.diff(graph_of_node, prepend=-1, append=y.size)
    if steps[0] != 1 or steps[-1] != 1 or np.any((steps < 0) | (steps > 1)):
        fields.fail("set/graph_of_node", f"not ascending over all of 0..{y.size - 1}")
    target_graph = np.repeat(graph_of_node, union.degrees)
    if np.any(graph_of_node[union.indices] != target_graph):
        fields.fail("set/graph_of_node", "an edge of graph/indices joins two graphs")
    train, val, test = (fields.booleans(f"set/{mask}", y.size) for mask in MASKS)
    return GraphSet(union, graph_of_node, y, train, val, test)
