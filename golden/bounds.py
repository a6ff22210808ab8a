"""Proved bounds of accumulators and sums, from formats and declared capacities alone.

The generated hardware is sized by these numbers, so any weights, graph and input within the
formats and capacities keep every sum exact.
"""

from dataclasses import dataclass

from sgq_hw.formats import Epilogue, Key
from sgq_hw.golden.attention_unit import attention_bound
from sgq_hw.golden.fixed_point import BoundError, check_bound, signed_bits
from sgq_hw.layers import Step
from sgq_hw.manifest import Manifest


@dataclass(frozen=True, slots=True)
class StageBound:
    """Bounds of one stage.

    Attributes:
        accumulator: Largest absolute value of any partial sum.
        accumulator_bits: Two's complement width for it.
        total_bits: Width of `acc * M + bias` with its rounding constant.
    """

    accumulator: int
    accumulator_bits: int
    total_bits: int


def epilogue_total_bits(accumulator: int, epilogue: Epilogue, addend: int = 0) -> int:
    """Return the two's complement width of `acc * M + addend * A + bias + rounding constant`.

    Args:
        accumulator: Largest absolute value of the accumulator.
        epilogue: The stage's epilogue.
        addend: Largest absolute value of the addend times A.
    """
    total = accumulator * ((1 << epilogue.multiplier.bits) - 1) + addend
    total += 1 << (epilogue.bias_bits - 1) if epilogue.bias_bits else 0
    exponents = [window.exponent for window in epilogue.output.windows]
    shift = epilogue.shift + max(exponents, default=0)
    total += 1 << (shift - 1) if shift else 0
    return signed_bits(-total, total)


def _attention_bound(step: Step, magnitude: int, max_row_edges: int) -> StageBound:
    assert step.attention is not None
    exponents = [window.exponent for window in step.epilogue.output.windows]
    try:
        bound = attention_bound(
            max_row_edges,
            step.attention.bits,
            magnitude,
            step.epilogue.bias_bits,
            step.epilogue.shift + max(exponents, default=0),
        )
    except BoundError as error:
        raise BoundError(f"layer {step.key[0]} {step.key[1]}: {error}") from error
    numerator = max_row_edges * ((1 << step.attention.bits) - 1) * magnitude
    return StageBound(numerator, bound.numerator_bits, bound.total_bits)


def stage_bounds(
    manifest: Manifest, max_row_nonzeros: int, max_row_edges: int, max_graph_nodes: int = 0
) -> dict[Key, StageBound]:
    """Bound every stage of a network.

    Args:
        manifest: The network.
        max_row_nonzeros: Capacity: most stored inputs in one row of the input matrix.
        max_row_edges: Capacity: most entries in one row of the aggregation matrix.
        max_graph_nodes: Capacity: most nodes of one graph, for networks with a readout.

    Returns:
        `(layer, stage)` to its bounds.

    Raises:
        BoundError: a width above 62 bits, naming layer and stage.
    """
    bounds: dict[Key, StageBound] = {}
    magnitudes: dict[Key | None, int] = {None: manifest.input.magnitude}
    edge = 1 if manifest.edge is None else manifest.edge.magnitude
    for step in manifest.steps():
        operand = magnitudes[step.source]
        if step.weight is not None:
            terms = max_row_nonzeros if step.source is None else step.inputs
            accumulator = terms * operand * step.weight.magnitude
        elif step.operation == "aggregate":
            accumulator = max_row_edges * edge * operand
        elif step.attention is not None:
            bounds[step.key] = _attention_bound(step, operand, max_row_edges)
            magnitudes[step.key] = step.epilogue.output.magnitude
            continue
        else:
            accumulator = max_graph_nodes * operand
        addend = 0 if step.addend is None else magnitudes[step.addend] * step.addend_factor
        total_bits = epilogue_total_bits(accumulator, step.epilogue, addend)
        check_bound(total_bits, f"layer {step.key[0]} {step.key[1]}: accumulator")
        bounds[step.key] = StageBound(
            accumulator, signed_bits(-accumulator, accumulator), total_bits
        )
        magnitudes[step.key] = step.epilogue.output.magnitude
    return bounds
