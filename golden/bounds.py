"""Proved bounds of accumulators and sums, from formats and declared capacities alone.

The generated hardware is sized by these numbers, so any weights, graph and input within the
formats and capacities keep every sum exact.
"""

from dataclasses import dataclass

from sgq_hw.bundle import Epilogue, Manifest
from sgq_hw.golden.fixed_point import check_bound, signed_bits


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


def epilogue_total_bits(accumulator: int, epilogue: Epilogue) -> int:
    """Return the two's complement width of `acc * M + bias + rounding constant`.

    Args:
        accumulator: Largest absolute value of the accumulator.
        epilogue: The stage's epilogue.
    """
    total = accumulator * ((1 << epilogue.multiplier.bits) - 1)
    total += 1 << (epilogue.bias_bits - 1) if epilogue.bias_bits else 0
    total += 1 << (epilogue.shift - 1) if epilogue.shift else 0
    return signed_bits(-total, total)


def stage_bounds(
    manifest: Manifest, max_row_nonzeros: int, max_row_edges: int
) -> dict[tuple[int, str], StageBound]:
    """Bound every stage of a network.

    Args:
        manifest: The network.
        max_row_nonzeros: Capacity: most stored inputs in one row of the input matrix.
        max_row_edges: Capacity: most entries in one row of the aggregation matrix.

    Returns:
        `(layer, stage)` to its bounds.

    Raises:
        BoundError: a width above 62 bits, naming layer and stage.
    """
    bounds = {}
    operand = manifest.input.magnitude
    edge = 1 if manifest.edge is None else manifest.edge.magnitude
    for index, layer in enumerate(manifest.layers):
        for stage in layer.stages:
            if stage == "aggregate":
                accumulator = max_row_edges * edge * operand
            else:
                terms = max_row_nonzeros if index == 0 else layer.in_channels
                accumulator = terms * operand * layer.weight.magnitude
            epilogue = layer.epilogue(stage)
            total_bits = epilogue_total_bits(accumulator, epilogue)
            check_bound(total_bits, f"layer {index} {stage}: accumulator")
            bounds[index, stage] = StageBound(
                accumulator, signed_bits(-accumulator, accumulator), total_bits
            )
            operand = epilogue.output.magnitude
    return bounds
