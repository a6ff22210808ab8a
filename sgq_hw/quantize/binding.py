"""The graph of a quantised network in training: rounded tables, adjacency and input codes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from sgq_hw.formats import Format
from sgq_hw.golden.fixed_point import code_range, decode, encode
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.manifest import InputSpec, NodeTable
from sgq_hw.models.edges import Edges
from sgq_hw.models.sparse import Matrix
from sgq_hw.quantize.config import BitConfig
from sgq_hw.quantize.plan import Rule
from sgq_hw.quantize.scales import best_scale, power_of_two_at_least
from sgq_hw.quantize.workload import degree_buckets, input_codes, real_graph, table_values

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BoundGraph:
    """What a network knows of its graph, all of it constant.

    Attributes:
        input: Format of the input codes.
        self_loops: Whether the adjacency contains the diagonal.
        splits: First in-degree of every degree bucket but the lowest.
        buckets: Degree bucket of each node, int64 [nodes].
        node_tables: Records of the tables of node factors, by rule.
        factors: Their rounded real values, float64 [nodes, 1].
        edge: Format of edge values, None where all are one.
        adjacency: Rounded edge values as CSR, float64 [nodes, nodes].
        edges: Its edge lists; None without self loops, as rows may then be empty.
        features: Input codes as CSR, float64 [nodes, features].
        pooling: Ones where a graph (row) has a node (column), None for a single graph.
    """

    input: InputSpec
    self_loops: bool
    splits: tuple[int, ...]
    buckets: npt.NDArray[np.int64]
    node_tables: dict[Rule, NodeTable]
    factors: dict[Rule, torch.Tensor]
    edge: Format | None
    adjacency: sparse.csr_array[Any]
    edges: Edges | None
    features: sparse.csr_array[Any]
    pooling: Matrix | None


def bound_graph(
    data: Graph | GraphSet,
    config: BitConfig,
    rules: Iterable[Rule],
    *,
    edge_values: bool,
    self_loops: bool,
) -> BoundGraph:
    """Round what a network needs of a graph, or set of graphs.

    Args:
        data: The graph.
        config: Bits of input, edge values and tables.
        rules: Of the node tables, in any order, repeated or not.
        edge_values: Whether edges carry normalised values.
        self_loops: Whether to add the diagonal.

    Raises:
        InputError: inputs that are no numbers.
    """
    graph = data.union if isinstance(data, GraphSet) else data
    spec = _input_spec(graph, config.input)
    real = real_graph(graph, self_loops=self_loops, row_normalised=spec.row_normalised)
    reals = {rule: table_values(rule, real, spec) for rule in rules}
    tables = {rule: _node_table(rule, values, config, spec) for rule, values in reals.items()}
    edge: Format | None = None
    values: FloatArray = np.ones(len(real.indices))
    if edge_values:
        scale = best_scale(real.edge_values, config.edge, signed=False, method=config.calibration)
        edge = Format(bits=config.edge, signed=False, scale=scale)
        values = decode(encode(real.edge_values, scale, config.edge, signed=False), scale)
    nodes = graph.num_nodes
    adjacency = sparse.csr_array((values, real.indices, real.indptr), shape=(nodes, nodes))
    inputs = input_codes(real, spec.bits, spec.signed).astype(np.float64)
    pooling: Matrix | None = None
    if isinstance(data, GraphSet):
        parts = (np.ones(nodes), np.arange(nodes), data.node_ptr)
        pooling = sparse.csr_array(parts, shape=(data.num_graphs, nodes))
    splits = config.splits()
    return BoundGraph(
        input=spec,
        self_loops=self_loops,
        splits=splits,
        buckets=degree_buckets(graph, splits),
        node_tables=tables,
        factors={rule: _rounded(reals[rule], table) for rule, table in tables.items()},
        edge=edge,
        adjacency=adjacency,
        edges=Edges.of(adjacency) if self_loops else None,
        features=sparse.csr_array(
            (inputs, graph.x_indices, graph.x_indptr), shape=(nodes, graph.num_features)
        ),
        pooling=pooling,
    )


def _input_spec(graph: Graph, bits: int) -> InputSpec:
    signed = graph.x_values is not None and bool((graph.x_values < 0).any())
    return InputSpec(
        channels=graph.num_features,
        bits=1 if graph.x_values is None else max(bits, 2) if signed else bits,
        signed=signed,
        row_normalised=not signed,
    )


def _node_table(rule: Rule, factors: FloatArray, config: BitConfig, spec: InputSpec) -> NodeTable:
    bits = config.factor if rule in ("degree", "mean") else config.input_factor
    peak = float(factors.max(initial=0.0))
    # A degree's factor never exceeds 1, on any graph, nor does a normalised row's the step
    # of its codes; the factors of other rows follow this graph's peak.
    top = 1.0
    if rule in ("input", "input-degree"):
        if spec.row_normalised:
            top = power_of_two_at_least(1.0 / code_range(spec.bits, signed=False)[1])
        elif peak > 0:
            top = power_of_two_at_least(peak)
    name = rule.replace("-", "_")
    return NodeTable(name=name, rule=rule, bits=bits, scale=math.ldexp(top, -bits))


def _rounded(factors: FloatArray, table: NodeTable) -> torch.Tensor:
    codes = encode(factors, table.scale, table.bits, signed=False)
    return torch.from_numpy(decode(codes, table.scale))[:, None]
