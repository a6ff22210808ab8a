"""Binding: a graph and its features turned into the integers that one network expects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgq_hw.bundle import Workload
from sgq_hw.errors import InputError
from sgq_hw.formats import Format
from sgq_hw.golden.fixed_point import IntArray, encode
from sgq_hw.golden.rows import reduce_rows
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph, with_self_loops
from sgq_hw.manifest import InputSpec, Manifest, NodeTable
from sgq_hw.node_sets import row_starts

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RealGraph:
    """What the quantiser derives from a graph before any rounding.

    Attributes:
        indptr: Row starts of the aggregation matrix.
        indices: Its columns, sorted in each row.
        degree_factor: `d ** -0.5` per node, d = row length of the aggregation matrix (0 for an
            empty row).
        mean_factor: `1 / d` per node (0 for an empty row).
        row_factor: Real value of a code step of 1.0 relative to the row's largest input.
        relative_inputs: Inputs divided by the largest magnitude of their row, CSR data order.
        edge_values: `(d_i * d_j) ** -0.5` per stored entry.
    """

    indptr: IntArray
    indices: IntArray
    degree_factor: FloatArray
    mean_factor: FloatArray
    row_factor: FloatArray
    relative_inputs: FloatArray
    edge_values: FloatArray


def real_graph(graph: Graph, *, self_loops: bool, row_normalised: bool) -> RealGraph:
    """Derive the real-valued factors of a graph.

    GCN's matrix is `D^-1/2 (A + I) D^-1/2` (Kipf and Welling 2017, equation 2).

    Raises:
        InputError: inputs that are no numbers, which no code stands for.
    """
    if graph.x_values is not None and not np.isfinite(graph.x_values).all():
        raise InputError(f"{graph.name}: x_data: holds NaN or infinity")
    indptr, indices = graph.indptr, graph.indices
    if self_loops:
        indptr, indices = with_self_loops(graph)
    degree = np.diff(indptr).astype(np.float64)
    degree_factor = np.divide(1.0, np.sqrt(degree), where=degree > 0, out=np.zeros_like(degree))
    values = (
        np.ones(len(graph.x_indices))
        if graph.x_values is None
        else np.asarray(graph.x_values, np.float64)
    )
    peak = reduce_rows(graph.x_indptr, np.abs(values), np.maximum)
    row_factor = peak.copy()
    if row_normalised:
        total = reduce_rows(graph.x_indptr, values, np.add)
        row_factor = np.divide(peak, total, where=total > 0, out=np.zeros_like(total))
    x_rows = np.repeat(np.arange(graph.num_nodes), np.diff(graph.x_indptr))
    # A stored zero keeps its place and gets code 0, even in a row of zeros.
    divisor = np.where(peak > 0, peak, 1.0)
    rows = np.repeat(np.arange(graph.num_nodes), np.diff(indptr))
    return RealGraph(
        indptr=indptr,
        indices=indices,
        degree_factor=degree_factor,
        mean_factor=np.divide(1.0, degree, where=degree > 0, out=np.zeros_like(degree)),
        row_factor=row_factor,
        relative_inputs=values / divisor[x_rows],
        edge_values=degree_factor[rows] * degree_factor[indices],
    )


def input_codes(real: RealGraph, bits: int, signed: bool) -> IntArray:
    """Quantise the inputs relative to their row's peak: peak = largest code."""
    magnitude = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    return encode(real.relative_inputs, 1.0 / magnitude, bits, signed)


def table_values(rule: str, real: RealGraph, spec: InputSpec) -> FloatArray:
    """Return the real per-node factor that a table's rule stands for, [nodes]."""
    step = real.row_factor / ((1 << (spec.bits - 1)) - 1 if spec.signed else (1 << spec.bits) - 1)
    if rule == "degree":
        return real.degree_factor
    if rule == "mean":
        return real.mean_factor
    return step * real.degree_factor if rule == "input-degree" else step


def degree_buckets(graph: Graph, splits: Sequence[int]) -> IntArray:
    """Return the degree bucket of each node: the number of splits that its in-degree reaches.

    In-degree is the stored row length, without self loops that a network adds.
    """
    return np.searchsorted(np.asarray(splits, np.int64), graph.degrees, side="right")


def bind(data: Graph | GraphSet, manifest: Manifest) -> Workload:
    """Turn a graph, or a set of graphs, into the integers that a network expects.

    Raises:
        InputError: the graph does not fit the network; names the field.
    """
    graph = data.union if isinstance(data, GraphSet) else data
    if isinstance(data, GraphSet) != manifest.reads_graphs:
        wanted = "a set of graphs" if manifest.reads_graphs else "one graph"
        raise InputError(f"{graph.name}: the network classifies {wanted}")
    spec = manifest.input
    if graph.num_features != spec.channels:
        raise InputError(
            f"{graph.name}: x_shape: {graph.num_features} features; the network has {spec.channels}"
        )
    if not spec.signed and graph.x_values is not None and bool(np.any(graph.x_values < 0)):
        raise InputError(f"{graph.name}: x_data: negative inputs; the network's are unsigned")
    real = real_graph(graph, self_loops=manifest.self_loops, row_normalised=spec.row_normalised)
    x_indptr, x_indices, codes = graph.x_indptr, graph.x_indices, None
    if graph.x_values is not None or spec.bits > 1:
        codes = input_codes(real, spec.bits, spec.signed)
        # Code 0 adds nothing and is not stored, so that what is left of one bit is all ones.
        kept = codes != 0
        rows = np.repeat(np.arange(graph.num_nodes), np.diff(x_indptr))
        x_indptr = row_starts(np.bincount(rows[kept], minlength=graph.num_nodes))
        x_indices = x_indices[kept]
        codes = codes[kept] if spec.bits > 1 else None
    classes = manifest.outputs
    labels = data.y
    if labels is not None and labels.size and int(labels.max()) >= classes:
        raise InputError(f"{graph.name}: y: class {int(labels.max())}; the network has {classes}")
    masks = {"train": data.train_mask, "val": data.val_mask, "test": data.test_mask}
    return Workload(
        name=graph.name,
        indptr=real.indptr,
        indices=real.indices,
        edge_codes=None if manifest.edge is None else _encode_edges(real, manifest.edge),
        x_indptr=x_indptr,
        x_indices=x_indices,
        x_codes=codes,
        node_tables={
            table.name: _encode_table(table, real, spec) for table in manifest.node_tables
        },
        buckets=(
            degree_buckets(graph, manifest.degree_splits) if manifest.degree_splits else None
        ),
        graph_of_node=data.graph_of_node if isinstance(data, GraphSet) else None,
        labels=labels,
        masks={name: mask for name, mask in masks.items() if mask is not None},
    )


def _encode_edges(real: RealGraph, edge: Format) -> IntArray:
    return encode(real.edge_values, edge.scale, edge.bits, signed=False)


def _encode_table(table: NodeTable, real: RealGraph, spec: InputSpec) -> IntArray:
    return encode(table_values(table.rule, real, spec), table.scale, table.bits, signed=False)
