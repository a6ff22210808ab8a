"""SGQuant's quantisers, emulated in floating point: what this package's networks are compared with.

Feng et al., "SGQuant: Squeezing the Last Bit on Graph Neural Networks with Specialized
Quantization", ICTAI 2020 (arXiv:2007.05100). Everything is rounded and at once made float32 again,
as in the original; nothing here is an integer network or can become a bundle. Nothing is tuned
either: the released code rounds in evaluation only.

Rounded are, at the same places for both methods, the input of every layer (X and hidden features;
both linear layers of a GIN layer have one), the product X W where the graph is applied to it, and
the attention weights of GAT and AGNN, all heads of a layer together. Weights and biases stay fp32,
and so do GAT's scores and GraphSAGE's root product, which the graph is not applied to. Ranges are
those of the live tensor; with a graph set, of the graphs of one mask.

Where to round is a choice (`places`): the scripts of the original differ in it. That of GCN rounds
X only, that of AGNN leaves its attention weights alone, those of GAT round all. It matters for
`released`, whose mean range cuts off products and collapses the attention weights of a single head,
at 32 bits too: Cora's GCN (81.8 % in fp32, five seeds) keeps 81.6 % at 8 bits with rounded inputs,
78.3 % with rounded products too.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, get_args

import numpy as np
from torch import Tensor

from sgq_hw import compression
from sgq_hw.design import address_bits
from sgq_hw.errors import InputError
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.models.catalogue import network_for
from sgq_hw.models.fit import accuracy_percent, examples_of, predict_logits, reproducible
from sgq_hw.models.network import Place
from sgq_hw.node_sets import MASKS
from sgq_hw.quantize.config import kinds_for, uniform_config
from sgq_hw.quantize.plan import PlannedStage, bundle_layers, plan_stages
from sgq_hw.train import TrainedModel, check_features

MAX_BITS: Final = 32
PLACES: Final[tuple[Place, ...]] = get_args(Place)


def released(values: Tensor, bits: int) -> Tensor:
    """Round as the released code does (`quant.py`, its `reduce_type='mean'`).

        zp = mean over rows of the row's minimum,  r = mean over rows of its maximum - zp
        s = r / (2^q - 1),  k = round_half_even(clamp((x - zp) / s, 0, 2^q - 1)),  x' = k s + zp

    What lies outside the mean range saturates, at 32 bits too. Where r is 0 (a constant, or a
    single column, as the attention weights of one head are) the original divides by zero: every
    value collapses to zp, and one equal to zp becomes NaN. Here s is then 1 and every code 0, so
    that all values are zp: the same collapse without the NaN.

    Args:
        values: float32; all dimensions but the first form a row. No NaN.
        bits: q.
    """
    rows = values.reshape(values.shape[0], -1)
    zero = rows.amin(dim=1).mean()
    scale = (rows.amax(dim=1).mean() - zero) / (2**bits - 1)
    if not scale > 0:
        return zero.expand_as(values)
    codes = ((values - zero) / scale).clamp(0, 2**bits - 1).round()
    rounded: Tensor = codes * scale + zero
    return rounded


def paper_floor(values: Tensor, bits: int) -> Tensor:
    """Round as the paper describes it, as far as that is known.

        s = (max x - min x) / 2^q,  k = floor((x - min x) / s),  x' = k s + min x

    The largest value would be code 2^q, which q bits do not hold: it is 2^q - 1 here. A constant
    keeps its value.

    Args:
        values: float32, no NaN.
        bits: q.
    """
    zero = values.min()
    scale = (values.max() - zero) / 2**bits
    if not scale > 0:
        return zero.expand_as(values)
    codes = ((values - zero) / scale).floor().clamp(0, 2**bits - 1)
    rounded: Tensor = codes * scale + zero
    return rounded


METHODS: Final[dict[str, Callable[[Tensor, int], Tensor]]] = {
    "released": released, "paper_floor": paper_floor,
}  # fmt: skip


def baseline_accuracy(
    trained: TrainedModel,
    data: Graph | GraphSet,
    method: str,
    bits: int,
    *,
    places: Collection[Place] = PLACES,
) -> dict[str, float]:
    """Return the accuracy of a trained network with rounded features, in percent.

    By train, val and test: of the labelled nodes, or graphs. A mask that selects none is left out.

    Args:
        trained: The float network.
        data: What it is tested on.
        method: One of `METHODS`.
        bits: Of everything that is rounded, 1 to 32.
        places: What is rounded.

    Raises:
        InputError: an unknown method, bits out of range, or other features than the network's.
    """
    _check_bits(bits)
    if method not in METHODS:
        raise InputError(f"baseline: method: {method} is not one of {', '.join(METHODS)}")
    check_features(trained, data)
    network = network_for(trained.model, data).from_arrays(trained.parameters)

    def emulate(values: Tensor, place: Place) -> Tensor:
        return METHODS[method](values, bits) if place in places else values

    network.emulate = emulate
    masks = [mask for mask in MASKS if data.labelled(mask).any()]
    if not masks:
        return {}
    with reproducible(trained.seed):
        examples = examples_of(type(network), data)
        return {
            mask.removesuffix("_mask"): accuracy_percent(
                predict_logits(network, examples[mask].inputs), examples[mask]
            )
            for mask in masks
        }


def baseline_compression(
    trained: TrainedModel,
    data: Graph | GraphSet,
    bits: int,
    *,
    places: Collection[Place] = PLACES,
) -> dict[str, float | int | None]:
    """Return how much smaller rounded features are, under the keys of `compression.as_json`.

    The definitions are those of `sgq_hw.compression`, but that scales and zero points are free, as
    the paper counts. Charged with 32 bits: weights, biases, the factors that normalise the graph
    (GCN: one a node, from which its edge values follow; GraphSAGE: one a node) and the results that
    stay fp32. Attention weights are not kept between passes, there as here. In `total` an index
    list holds every non-zero input: a few of them may round to zero and need no place. Both methods
    have the same figures.

    Args:
        trained: The float network.
        data: Its graph or set of graphs.
        bits: Of everything that is rounded, 1 to 32.
        places: What is rounded; the rest has 32 bits.

    Raises:
        InputError: bits out of range, or other features than the network's.
    """
    _check_bits(bits)
    check_features(trained, data)
    graph = data.union if isinstance(data, GraphSet) else data
    stages = _stages(trained, data)
    found = baseline_tensors(trained, data, bits, places)
    input_bits = found[0].payload_bits // found[0].elements
    code_bits = 0 if input_bits == 1 else input_bits  # a code of 1 bit is listed where it is 1
    lengths = np.diff(network_for(trained.model, data).adjacency(graph).indptr)
    # An edge is a column and an end-of-row flag; without self loops a row may be empty.
    record_bits = address_bits(graph.num_nodes) + 1 + (trained.model == "sage")
    parameters = sum(array.size for array in trained.parameters.values())
    results = sum(tensor.float_bits for tensor in found[: 1 + len(stages)])
    factors = found[1 + len(stages) :]
    charged = (
        compression.FLOAT_BITS * parameters
        + int(np.maximum(lengths, 1).sum()) * record_bits
        + sum(tensor.payload_bits for tensor in factors)
        + compression.live_bits(stages, {tensor.name: tensor.payload_bits for tensor in found})
        + compression.cheapest_coding_bits(
            np.diff(graph.x_indptr), graph.num_features, input_bits, code_bits
        )
    )
    dense = results + compression.FLOAT_BITS * (parameters + 2 * int(lengths.sum()))
    return compression.as_json(compression.figures(found, dense, charged))


def baseline_tensors(
    trained: TrainedModel, data: Graph | GraphSet, bits: int, places: Collection[Place] = PLACES
) -> tuple[compression.Tensor, ...]:
    """Return every tensor as `compression.tensors` does: input, results of stages, node factors."""
    graph = data.union if isinstance(data, GraphSet) else data
    nodes = graph.num_nodes

    def tensor(
        name: str, elements: int, width: int, *, layer_input: bool = False, kept: bool = True
    ) -> compression.Tensor:
        return compression.Tensor(name, elements, elements * width, layer_input, kept)

    by_place = {place: bits if place in places else compression.FLOAT_BITS for place in PLACES}
    found = [tensor("input", nodes * graph.num_features, by_place["input"], layer_input=True)]
    stages = _stages(trained, data)
    ends = {stage.key[0]: stage.key for stage in stages}  # the last stage of each layer
    widths: dict[tuple[int, str] | None, int] = {None: graph.num_features}
    rows = nodes
    for stage in stages:
        if stage.key[1] == "score":  # one of a target and one of a source for each head
            widths[stage.key] = 2 * trained.parameters[f"layer{stage.key[0]}/source"].shape[0]
        elif stage.operation == "combine":
            widths[stage.key] = trained.parameters[stage.weight].shape[1]
        else:
            widths[stage.key] = widths[stage.source]
        if stage.operation == "readout":
            assert isinstance(data, GraphSet)
            rows = data.num_graphs
        result = stage is stages[-1]
        place = None if result else _place(stage, stages)
        found.append(
            tensor(
                compression.stage_name(stage.key),
                rows * widths[stage.key],
                by_place[place] if place else compression.FLOAT_BITS,
                layer_input=not result and ends[stage.key[0]] == stage.key,
                kept=not result,
            )
        )
    if trained.model in ("gcn", "sage"):
        found.append(tensor("factors", nodes, compression.FLOAT_BITS))
    return tuple(found)


def _stages(trained: TrainedModel, data: Graph | GraphSet) -> list[PlannedStage]:
    """Return what the network computes, stage by stage; their bits do not matter here."""
    config = uniform_config(8, kinds_for(trained, data))
    return plan_stages(bundle_layers(kinds_for(trained, data), config), config)


def _place(stage: PlannedStage, stages: Sequence[PlannedStage]) -> Place | None:
    """Return what the result of a stage is, None for one that stays fp32."""
    if stage.key[1] in ("root", "score"):
        return None
    # What a later layer, or the second linear layer of GIN, reads is an input.
    reader = next(other for other in stages if other.source == stage.key)
    combined = stage.operation == "combine"
    return "product" if combined and reader.key[0] == stage.key[0] else "input"


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise InputError(f"baseline: bits: {bits} is outside 1 to {MAX_BITS}")
