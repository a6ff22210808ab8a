"""The whole network in integers: every code that the accelerator writes at a pass boundary."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sgq_hw.bundle import Bundle, Network, Workload
from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.bounds import StageBound, stage_bounds
from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.fixed_point import IntArray, check_range
from sgq_hw.golden.requantize import requantize

Trace = dict[tuple[int, str], IntArray]
"""`(layer, stage)` to the codes int64 [nodes, channels] that the stage wrote, in running order."""


def input_matrix(network: Network, workload: Workload) -> sparse.csr_array:
    """Return the input codes as CSR, int64 [nodes, features]."""
    codes = workload.x_codes
    data = np.ones(len(workload.x_indices), np.int64) if codes is None else codes
    shape = (workload.num_nodes, network.manifest.input.channels)
    return sparse.csr_array((data, workload.x_indices, workload.x_indptr), shape=shape)


def _multiplier(network: Network, workload: Workload, index: int, stage: str) -> IntArray:
    multiplier = network.manifest.layers[index].epilogue(stage).multiplier
    if multiplier.kind == "node":
        return workload.node_tables[multiplier.table][:, np.newaxis]
    if multiplier.kind == "channel":
        return network.multipliers[index, stage]
    return np.asarray(multiplier.value, np.int64)


def _accumulate(
    network: Network,
    workload: Workload,
    key: tuple[int, str],
    features: IntArray | sparse.csr_array,
    bound: StageBound,
) -> IntArray:
    index, stage = key
    if stage == "combine":
        return combination_unit(features, network.weights[index], bound.accumulator)
    if isinstance(features, sparse.csr_array):
        raise TypeError("the first stage of a network is a combination")
    return aggregation_unit(workload.indptr, workload.indices, workload.edge_codes, features)


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
    )
    trace: Trace = {}
    features: IntArray | sparse.csr_array = input_matrix(network, workload)
    for index, layer in enumerate(manifest.layers):
        for stage in layer.stages:
            bound = bounds[index, stage]
            sums = _accumulate(network, workload, (index, stage), features, bound)
            check_range(
                sums, -bound.accumulator, bound.accumulator, f"layer {index} {stage}: accumulator"
            )
            epilogue = layer.epilogue(stage)
            bias = network.biases.get((index, stage), np.zeros((), np.int64))
            features = requantize(
                sums,
                _multiplier(network, workload, index, stage),
                bias,
                epilogue.shift,
                epilogue.output.bits,
                epilogue.output.signed,
            )
            trace[index, stage] = features
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


def useful_macs(network: Network, workload: Workload, trace: Trace) -> dict[tuple[int, str], int]:
    """Count multiply-accumulates of each stage whose two walked operands matter.

    Useful are the non-zero entries of the sparse operand (input codes, hidden codes, edges) times
    the unpadded output channels, the field's convention.
    """
    result = {}
    nonzeros = int(np.count_nonzero(input_matrix(network, workload).data))
    for index, layer in enumerate(network.manifest.layers):
        for stage in layer.stages:
            if stage == "aggregate":
                codes = workload.edge_codes
                terms = workload.num_edges if codes is None else int(np.count_nonzero(codes))
            else:
                terms = nonzeros
            result[index, stage] = terms * layer.channels(stage)
            nonzeros = int(np.count_nonzero(trace[index, stage]))
    return result


def evaluate(bundle: Bundle) -> dict[str, float]:
    """Run a bundle and return its accuracy in percent for each mask, empty without labels."""
    trace = run(bundle.network, bundle.workload)
    labels = bundle.workload.labels
    if labels is None:
        return {}
    logits = trace[next(reversed(trace))]
    return accuracy(logits, labels, bundle.workload.masks)
