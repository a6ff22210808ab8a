"""The whole network in integers: every code that the accelerator writes at a pass boundary."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sgq_hw.bundle import Bundle, Network, Workload
from sgq_hw.formats import Key
from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.attention_unit import (
    AttentionTable,
    AttentionWeights,
    attention_unit,
    edge_weights,
    elu,
)
from sgq_hw.golden.bounds import StageBound, stage_bounds
from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.fixed_point import MAX_BITS, IntArray, check_range
from sgq_hw.golden.readout_unit import readout_unit
from sgq_hw.golden.requantize import requantize, requantize_windows
from sgq_hw.golden.rows import csr_matrix
from sgq_hw.layers import AgnnAttention, GatAttention, Step

Trace = dict[Key, IntArray]
"""`(layer, stage)` to the codes int64 [nodes, channels] that the stage wrote, in running order."""


def input_matrix(
    network: Network, workload: Workload, bound: int = 1 << MAX_BITS
) -> sparse.csr_array:
    """Return the input codes as CSR [nodes, features], int64 unless products have a lower bound."""
    channels = network.manifest.input.channels
    return csr_matrix(workload.x_indptr, workload.x_indices, workload.x_codes, channels, bound)


def _multiplier(network: Network, workload: Workload, step: Step) -> IntArray:
    multiplier = step.epilogue.multiplier
    if multiplier.kind == "node":
        return workload.node_tables[multiplier.table][:, np.newaxis]
    if multiplier.kind == "channel":
        return network.multipliers[step.key]
    return np.asarray(multiplier.value, np.int64)


def _accumulate(
    network: Network,
    workload: Workload,
    step: Step,
    features: IntArray | sparse.csr_array,
    bound: StageBound,
) -> IntArray:
    if step.operation == "combine":
        return combination_unit(features, network.weights[step.key], bound.accumulator)
    if isinstance(features, sparse.csr_array):
        raise TypeError("the first stage of a network is a combination")
    if step.operation == "aggregate":
        return aggregation_unit(
            workload.indptr, workload.indices, workload.edge_codes, features, bound.accumulator
        )
    assert workload.graph_of_node is not None
    return readout_unit(workload.graph_of_node, features)


def _edge_weights(
    network: Network, workload: Workload, step: Step, trace: Trace, magnitude: int
) -> AttentionWeights:
    """Return the weights of a stage with attention, whose feature codes reach `magnitude`."""
    assert step.source is not None
    assert step.attention is not None
    attention = step.attention
    scores = None if step.scores is None else trace[step.scores]
    table = AttentionTable(
        network.exponentials[step.key], attention.index_shift, attention.bits
    )
    return edge_weights(
        workload.indptr, workload.indices, attention, table, trace[step.source], magnitude, scores
    )


def _attend(
    network: Network, workload: Workload, step: Step, trace: Trace, magnitude: int
) -> IntArray:
    """Return the codes of a stage with attention, before a table's activation."""
    assert step.source is not None
    attention, epilogue = step.attention, step.epilogue
    assert attention is not None
    weights = _edge_weights(network, workload, step, trace, magnitude).codes
    bias = network.biases.get(step.key, np.zeros((), np.int64))
    output = epilogue.output
    return attention_unit(
        workload.indptr, workload.indices, weights, trace[step.source], att_bits=attention.bits,
        magnitude=magnitude, bias=bias, bias_bits=epilogue.bias_bits, shift=epilogue.shift,
        bits=output.bits, signed=output.signed, windows=output.windows, buckets=workload.buckets,
    )  # fmt: skip


def _epilogue(
    network: Network, workload: Workload, step: Step, sums: IntArray, addend: IntArray | None
) -> IntArray:
    output = step.epilogue.output
    multiplier = _multiplier(network, workload, step)
    bias = network.biases.get(step.key, np.zeros((), np.int64))
    if output.windows:
        assert workload.buckets is not None
        return requantize_windows(
            sums, multiplier, bias, step.epilogue.shift, output.windows, output.signed,
            workload.buckets, addend, step.addend_factor,
        )  # fmt: skip
    return requantize(
        sums, multiplier, bias, step.epilogue.shift, output.bits, output.signed, addend,
        step.addend_factor,
    )  # fmt: skip


def run(network: Network, workload: Workload) -> Trace:
    """Run the network on a graph.

    Returns:
        The codes at every pass boundary; the last entry holds the logits.

    Raises:
        BoundError: an accumulator could exceed 62 bits or left its proved range.
    """
    manifest = network.manifest
    bounds = stage_bounds(
        manifest,
        int(np.diff(workload.x_indptr).max(initial=0)),
        int(np.diff(workload.indptr).max(initial=0)),
        0 if workload.graph_of_node is None else int(np.bincount(workload.graph_of_node).max()),
    )
    trace: Trace = {}
    magnitudes: dict[Key | None, int] = {None: manifest.input.magnitude}
    for step in manifest.steps():
        magnitudes[step.key] = step.epilogue.output.magnitude
        if step.operation == "attend":
            codes = _attend(network, workload, step, trace, magnitudes[step.source])
            elu_table = network.activations.get(step.key)
            trace[step.key] = codes if elu_table is None else elu(codes, elu_table)
            continue
        bound = bounds[step.key]
        features = (
            input_matrix(network, workload, bound.accumulator)
            if step.source is None
            else trace[step.source]
        )
        sums = _accumulate(network, workload, step, features, bound)
        what = f"layer {step.key[0]} {step.key[1]}: accumulator"
        check_range(sums, -bound.accumulator, bound.accumulator, what)
        addend = None if step.addend is None else trace[step.addend]
        trace[step.key] = _epilogue(network, workload, step, sums, addend)
    return trace


def predict(logits: IntArray) -> IntArray:
    """Return the class of each node: the lowest index among the largest logits."""
    return np.asarray(np.argmax(logits, axis=1), np.int64)


def accuracy(
    logits: IntArray, labels: IntArray, masks: dict[str, npt.NDArray[np.bool_]]
) -> dict[str, float]:
    """Return the accuracy in percent for each mask, over the nodes that have a label."""
    correct = predict(logits) == labels
    result = {}
    for name, mask in masks.items():
        chosen = mask & (labels >= 0)
        if chosen.any():
            result[name] = float(100.0 * correct[chosen].mean())
    return result


def useful_macs(network: Network, workload: Workload, trace: Trace) -> dict[Key, int]:
    """Count multiply-accumulates of each stage whose two walked operands matter.

    Useful are the non-zero entries of the sparse operand (input codes, hidden codes, edges) times
    the unpadded output channels, the field's convention.
    """
    result = {}
    codes = workload.edge_codes
    edges = workload.num_edges if codes is None else int(np.count_nonzero(codes))
    for step in network.manifest.steps():
        if step.operation == "attend":
            # Score and weighted sum over true edges and heads; AGNN's score is a dot product.
            cosine = isinstance(step.attention, AgnnAttention)
            result[step.key] = workload.num_edges * step.channels * (2 if cosine else 1)
            continue
        if step.operation == "aggregate":
            terms = edges
        elif step.operation == "readout":
            terms = workload.num_nodes
        elif step.source is None:
            terms = int(np.count_nonzero(input_matrix(network, workload).data))
        else:
            terms = int(np.count_nonzero(trace[step.source]))
        result[step.key] = terms * step.channels
    return result


def score_macs(network: Network, workload: Workload) -> int:
    """Count the useful multiplications of AGNN's scores, which have multipliers of their own."""
    return sum(
        workload.num_edges * step.channels
        for step in network.manifest.steps()
        if isinstance(step.attention, AgnnAttention)
    )


@dataclass(frozen=True, slots=True)
class AttentionRows:
    """How many rows of an attention layer keep a neighbour.

    Attributes:
        layer: Number of the layer.
        bound: What logits are subtracted from: GAT's `row` or `global` maximum, AGNN's `beta`.
        rows: Pairs of a head and a row with neighbours.
        zeroed_rows: Those whose weights are all 0, so that the result is the bias alone: the row
            lies too far below its bound.
    """

    layer: int
    bound: Literal["row", "global", "beta"]
    rows: int
    zeroed_rows: int


def attention_rows(bundle: Bundle, trace: Trace) -> list[AttentionRows]:
    """Count rows and those without any weight in every layer with attention.

    Args:
        bundle: Network and graph.
        trace: What `run` returns for them.
    """
    steps = bundle.network.manifest.steps()
    magnitudes = {step.key: step.epilogue.output.magnitude for step in steps}
    filled = int(np.count_nonzero(np.diff(bundle.workload.indptr)))
    found = []
    for step in steps:
        if step.attention is None:
            continue
        assert step.source is not None
        magnitude = magnitudes[step.source]
        weights = _edge_weights(bundle.network, bundle.workload, step, trace, magnitude)
        bound: Literal["row", "global", "beta"] = "beta"
        if isinstance(step.attention, GatAttention):
            bound = step.attention.bound
        found.append(
            AttentionRows(step.key[0], bound, filled * weights.codes.shape[1], weights.zeroed)
        )
    return found


def evaluate(bundle: Bundle) -> dict[str, float]:
    """Run a bundle and return its accuracy in percent for each mask, empty without labels."""
    return accuracy_of(bundle, run(bundle.network, bundle.workload))


def accuracy_of(bundle: Bundle, trace: Trace) -> dict[str, float]:
    """Return the accuracy in percent for each mask of what `run` gave, empty without labels."""
    labels = bundle.workload.labels
    if labels is None:
        return {}
    logits = trace[next(reversed(trace))]
    return accuracy(logits, labels, bundle.workload.masks)
