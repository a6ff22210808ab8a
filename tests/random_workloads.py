"""Random graphs with integer inputs, for the networks of `tests.random_networks`."""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from sgq_hw.bundle import Workload
from sgq_hw.formats import Format
from sgq_hw.golden.fixed_point import code_range
from sgq_hw.manifest import InputSpec, Manifest, NodeTable

IntArray = npt.NDArray[np.int64]
Rng = np.random.Generator
T = TypeVar("T")

GraphKind = Literal["random", "empty rows", "hub", "self loops", "one node"]
GRAPHS: tuple[GraphKind, ...] = ("random", "empty rows", "hub", "self loops", "one node")


def choose(rng: Rng, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def between(rng: Rng, low: int, high: int) -> int:
    """Return an integer in [low, high], or low where the interval is empty."""
    return int(rng.integers(low, max(low, high) + 1))


def random_codes(rng: Rng, low: int, high: int, shape: int | tuple[int, ...]) -> IntArray:
    """Return integers in [low, high]; one in eight is a limit."""
    values = rng.integers(low, high + 1, shape)
    limits = rng.choice(np.array([low, high]), shape)
    return np.where(rng.random(shape) < 0.125, limits, values).astype(np.int64)


def _rows(rng: Rng, nodes: int, kind: GraphKind, self_loops: bool) -> list[IntArray]:
    """Return the sorted columns of each row of an aggregation matrix.

    In `empty rows` about a third of the nodes have no edges at all; in `hub` one node is joined to
    all others, in both directions; `self loops` stores loops of its own at half of the nodes.
    """
    wanted = rng.poisson(between(rng, 1, 4), nodes)
    rows = [set(rng.choice(nodes, min(nodes, int(n)), replace=False).tolist()) for n in wanted]
    if kind == "empty rows":
        isolated = {int(node) for node in rng.choice(nodes, -(-nodes // 3), replace=False)}
        rows = [set() if i in isolated else row - isolated for i, row in enumerate(rows)]
    elif kind == "hub":
        hub = int(rng.integers(nodes))
        rows = [set(range(nodes)) if i == hub else row | {hub} for i, row in enumerate(rows)]
    elif kind == "self loops":
        rows = [row | {i} if i % 2 else row - {i} for i, row in enumerate(rows)]
    if self_loops:
        rows = [row | {i} for i, row in enumerate(rows)]
    return [np.array(sorted(row), np.int64) for row in rows]


def _thin(
    rng: Rng, rows: list[IntArray], max_row_edges: int | None, max_edges: int | None
) -> list[IntArray]:
    """Drop random entries until the rows fit; self loops (or a row's first entry) stay."""
    if max_row_edges is not None:
        rows = [_keep(rng, row, index, len(row) - max_row_edges) for index, row in enumerate(rows)]
    if max_edges is not None:
        # Every row takes a record, so only what exceeds one entry a row can be saved.
        spare = np.repeat(np.arange(len(rows)), [max(0, len(row) - 1) for row in rows])
        excess = sum(max(1, len(row)) for row in rows) - max_edges
        if excess > len(spare):
            raise ValueError(f"{len(rows)} nodes need more than {max_edges} edge records")
        dropped = rng.choice(spare, max(0, excess), replace=False)
        counts = np.bincount(dropped, minlength=len(rows))
        rows = [_keep(rng, row, index, int(counts[index])) for index, row in enumerate(rows)]
    return rows


def _keep(rng: Rng, row: IntArray, node: int, drop: int) -> IntArray:
    """Return a row without `drop` of its entries, never without its self loop."""
    if drop <= 0:
        return row
    order = rng.permutation(row)
    order = np.concatenate([order[order == node], order[order != node]])
    return np.sort(order[: len(row) - drop])


def _csr(rows: list[IntArray]) -> tuple[IntArray, IntArray]:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return indptr, np.concatenate([np.zeros(0, np.int64), *rows])


def random_buckets(
    rng: Rng, nodes: int, buckets: int, room: Sequence[int] | None = None
) -> IntArray:
    """Draw the degree bucket of every node, of very uneven sizes: some buckets are often empty.

    Args:
        rng: Source of all draws.
        nodes: Number of nodes.
        buckets: Number of buckets.
        room: Most nodes of each bucket, at least `nodes` together.
    """
    places = np.repeat(np.arange(buckets), [nodes] * buckets if room is None else room)
    if len(places) < nodes:
        raise ValueError(f"{nodes} nodes in buckets with room for {len(places)}")
    wanted = rng.random(buckets) ** 3 * (rng.random(buckets) < 0.8) + 1e-9
    first = np.argsort(rng.random(len(places)) / wanted[places], kind="stable")[:nodes]
    return rng.permutation(places[first]).astype(np.int64)


def draw_workload(
    rng: Rng,
    spec: InputSpec,
    edge: Format | None,
    tables: Sequence[NodeTable],
    *,
    self_loops: bool,
    classes: int,
    nodes: int,
    graph: GraphKind | None = None,
    max_edges: int | None = None,
    max_row_edges: int | None = None,
    max_row_nonzeros: int | None = None,
    buckets: int = 1,
    max_bucket_nodes: Sequence[int] | None = None,
) -> Workload:
    """Draw a graph for an input, an edge format and node tables; see `random_workload`."""
    any_kind: GraphKind = "one node" if nodes == 1 else choose(rng, GRAPHS[:-1])
    kind = any_kind if graph is None else graph
    rows = _rows(rng, nodes, kind, self_loops)
    indptr, indices = _csr(_thin(rng, rows, max_row_edges, max_edges))
    most = min(spec.channels, max_row_nonzeros or spec.channels)
    density = rng.uniform(0.2, 1.0)
    counts = np.minimum(rng.binomial(spec.channels, density, nodes), most)
    # One full row at least, so that something is stored and the capacity is reached.
    counts[int(rng.integers(nodes))] = most
    x_indptr, x_indices = _csr(
        [np.sort(rng.choice(spec.channels, int(n), replace=False)).astype(np.int64) for n in counts]
    )
    binary = spec.bits == 1 and not spec.signed
    low, high = code_range(spec.bits, spec.signed)
    part = rng.integers(4, size=nodes)
    return Workload(
        name=f"random {kind}",
        indptr=indptr,
        indices=indices,
        edge_codes=None if edge is None else random_codes(rng, 0, edge.magnitude, len(indices)),
        x_indptr=x_indptr,
        x_indices=x_indices,
        x_codes=None if binary else random_codes(rng, low, high, len(x_indices)),
        node_tables={
            table.name: random_codes(rng, 0, (1 << table.bits) - 1, nodes) for table in tables
        },
        buckets=random_buckets(rng, nodes, buckets, max_bucket_nodes) if buckets > 1 else None,
        labels=rng.integers(-1, classes, nodes),
        masks={name: part == index for index, name in enumerate(("train", "val", "test"))},
    )


def random_workload(
    rng: Rng,
    manifest: Manifest,
    nodes: int,
    *,
    graph: GraphKind | None = None,
    max_edges: int | None = None,
    max_row_edges: int | None = None,
    max_row_nonzeros: int | None = None,
    max_bucket_nodes: Sequence[int] | None = None,
) -> Workload:
    """Draw a graph, inputs and node tables that fit a network.

    Args:
        rng: Source of all draws.
        manifest: The network's manifest.
        nodes: Number of nodes.
        graph: Kind of graph; drawn without it. `one node` needs `nodes` 1.
        max_edges: Capacity in edge records (an empty row takes one); at least `nodes`.
        max_row_edges: Capacity of a row of the aggregation matrix.
        max_row_nonzeros: Capacity of a row of the input.
        max_bucket_nodes: Capacity of each degree bucket, at least `nodes` together.
    """
    return draw_workload(
        rng, manifest.input, manifest.edge, manifest.node_tables,
        self_loops=manifest.self_loops, classes=manifest.outputs, nodes=nodes,
        graph=graph, max_edges=max_edges, max_row_edges=max_row_edges,
        max_row_nonzeros=max_row_nonzeros, buckets=len(manifest.degree_splits) + 1,
        max_bucket_nodes=max_bucket_nodes,
    )  # fmt: skip
