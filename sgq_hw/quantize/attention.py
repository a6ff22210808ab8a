"""Attention in the quantised network: the golden unit's integers, and what training sees of them.

Training drops features and leaves some unrounded, which integers cannot follow. It sees the real
softmax with weights rounded as the table rounds them; evaluation runs the golden unit's integers.
"""

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from sgq_hw.errors import InputError
from sgq_hw.formats import Format
from sgq_hw.golden.attention_unit import (
    SLOPE_CODE,
    SLOPE_SHIFT,
    AttentionTable,
    attention_table,
    fitting_norm_bits,
    inverse_norms,
    reciprocals,
)
from sgq_hw.golden.fixed_point import code_range
from sgq_hw.layers import AgnnAttention, GatAttention
from sgq_hw.models.edges import Edges, edge_dots, edge_softmax, leaky_edge_sums, weighted_sums
from sgq_hw.quantize.kernels import agnn_sums, gat_sums, rounded_weights
from sgq_hw.quantize.plan import PlannedStage
from sgq_hw.quantize.rounding import replaced
from sgq_hw.quantize.scales import power_of_two_at_least

IntArray = npt.NDArray[np.int64]
SLOPE = SLOPE_CODE / 2**SLOPE_SHIFT
WIDE_BITS = 8
"""Weights wider than this deserve a finer table of exponentials."""
SHORT_TABLE, LONG_TABLE = 256, 1024


@dataclass(frozen=True, slots=True)
class Attention:
    """What calibration chose for an attention.

    Attributes:
        record: As the bundle has it.
        table: Exponentials.
        logit_scale: Real value of one step of a logit.
    """

    record: GatAttention | AgnnAttention
    table: AttentionTable
    logit_scale: float

    @property
    def largest_beta(self) -> int:
        """AGNN: the largest factor, in steps, that the table is made for."""
        assert isinstance(self.record, AgnnAttention)
        last = len(self.table.codes) - 1
        high = code_range(self.record.score_bits, signed=True)[1]
        if self.table.codes[last] == 0:
            return high
        return min(high, (last << self.table.index_shift) // 2)

    def with_beta(self, beta: float) -> "Attention":
        """AGNN: return it with the factor's present value."""
        limit = self.largest_beta
        code = min(max(math.floor(beta / self.logit_scale + 0.5), -limit), limit)
        record = msgspec.structs.replace(self.record, beta=code)
        return Attention(record, self.table, self.logit_scale)


def choose_gat(stage: PlannedStage, scores: Format, heads: int) -> Attention:
    """Choose the table of a GAT layer for the format of its scores."""
    length = LONG_TABLE if stage.attention_bits > WIDE_BITS else SHORT_TABLE
    scale = math.ldexp(scores.scale, -SLOPE_SHIFT)
    # The target's score is common to a row's bound and logits: they differ most where it is high.
    high = code_range(scores.bits, signed=True)[1]
    largest = (2 * high << SLOPE_SHIFT) + SLOPE_CODE
    table = attention_table(stage.attention_bits, scale, length, largest)
    record = GatAttention(
        heads=heads, bits=table.bits, index_shift=table.index_shift,
        slope_code=SLOPE_CODE, slope_shift=SLOPE_SHIFT, bound=stage.bound,
        table_length=length,
    )  # fmt: skip
    return Attention(record, table, scale)


def choose_agnn(stage: PlannedStage, beta: float, channels: int, magnitude: int) -> Attention:
    """Choose logit scale and table of an AGNN layer for the factor of its cosines.

    Args:
        stage: The stage.
        beta: Factor of the cosines.
        channels: Of the features.
        magnitude: Largest absolute code of the features.

    Raises:
        InputError: no reciprocal norm is narrow enough for features and scores so wide.
    """
    norm_bits = fitting_norm_bits(channels, magnitude, stage.score_bits)
    if norm_bits < 2:
        raise InputError(
            f"layers[{stage.key[0]}].score: {stage.score_bits} bits are too many for "
            f"{channels} channels of features so wide"
        )
    length = LONG_TABLE if stage.attention_bits > WIDE_BITS else SHORT_TABLE
    high = code_range(stage.score_bits, signed=True)[1]
    scale = power_of_two_at_least(max(abs(beta), 2.0**-16) / high)
    code = math.floor(beta / scale + 0.5)
    # Room for a factor that fine-tuning doubles: cosines differ by up to twice the factor.
    table = attention_table(stage.attention_bits, scale, length, 2 * min(2 * abs(code), high))
    record = AgnnAttention(
        bits=table.bits, index_shift=table.index_shift, score_bits=stage.score_bits,
        norm_bits=norm_bits, beta=code, table_length=length,
    )  # fmt: skip
    return Attention(record, table, scale)


def trained_mean(
    edges: Edges,
    hidden: torch.Tensor,
    scores: torch.Tensor | None,
    beta: torch.Tensor | None,
    bits: int,
) -> torch.Tensor:
    """Return the weighted means in real numbers, weights rounded to `bits`, with gradients.

    Args:
        edges: Of the graph.
        hidden: Features [nodes, heads * channels].
        scores: GAT: as targets, then as sources, [nodes, 2 * heads].
        beta: AGNN: the factor of the cosine, [1].
        bits: Width of an unnormalised weight.
    """
    if scores is not None:
        targets, sources = scores.chunk(2, dim=1)
        logits = leaky_edge_sums(targets, sources, SLOPE, edges)
    else:
        assert beta is not None
        norms = hidden.norm(dim=1, keepdim=True)
        logits = edge_dots(hidden / torch.where(norms > 0, norms, 1.0), edges) * beta
    weights = edge_softmax(logits, edges)
    codes = rounded_weights(edges.indptr, weights.detach().numpy(), 2**bits - 1)
    return weighted_sums(replaced(weights, torch.from_numpy(codes)), hidden, edges)


def exact_mean(
    attention: Attention,
    edges: Edges,
    hidden: torch.Tensor,
    source: Format,
    scores: IntArray | None,
    bias: IntArray,
) -> tuple[IntArray, IntArray]:
    """Return `num * R + (bias << e)` and e of the golden unit, each int64 [nodes, channels].

    Args:
        attention: From calibration.
        edges: Of the graph.
        hidden: Features as real values of `source`'s codes.
        source: Their format.
        scores: GAT: codes as targets, then as sources.
        bias: On the grid of the products.
    """
    weight, magnitude = (1 << attention.record.bits) - 1, source.magnitude
    heads = attention.record.heads if isinstance(attention.record, GatAttention) else 1
    channels = hidden.shape[1] // heads
    longest = int(np.diff(edges.indptr).max(initial=0))
    largest_sum = magnitude * max(longest * weight, channels * magnitude)
    codes = (hidden.detach() / source.scale).numpy()
    codes = codes.astype(np.int32 if largest_sum < 2**31 else np.int64)
    numerators, denominators = _integer_sums(
        attention, edges, codes.reshape(-1, heads, channels), magnitude, scores
    )
    exponents, factors = (np.repeat(part, channels, axis=1) for part in reciprocals(denominators))
    totals = numerators.reshape(codes.shape).astype(np.int64) * factors
    return totals + (bias << exponents), exponents


def _integer_sums(
    attention: Attention,
    edges: Edges,
    codes: npt.NDArray[Any],
    magnitude: int,
    scores: IntArray | None,
) -> tuple[npt.NDArray[Any], IntArray]:
    """Return numerators [nodes, heads, channels] and denominators [nodes, heads].

    Args:
        attention: From calibration.
        edges: Of the graph.
        codes: Of the features [nodes, heads, channels], of a type that holds the sums.
        magnitude: Their largest absolute value.
        scores: GAT: codes as targets, then as sources.
    """
    record, table = attention.record, attention.table
    if isinstance(record, AgnnAttention):
        norms = inverse_norms(codes[:, 0].astype(np.int64), magnitude, record.norm_bits)
        return agnn_sums(
            edges.indptr, edges.sources, norms.mantissa, norms.exponent,
            2 * (record.norm_bits - 1), record.beta, table.codes, table.index_shift, codes,
        )  # fmt: skip
    assert scores is not None
    targets, sources = map(np.ascontiguousarray, np.split(scores, 2, axis=1))
    floors = np.full(record.heads, np.iinfo(np.int64).min)
    if record.bound == "global":
        floors = sources.max(axis=0)
    return gat_sums(
        edges.indptr, edges.sources, targets, sources, floors, record.slope_code,
        record.slope_shift, table.codes, table.index_shift, codes,
    )  # fmt: skip
