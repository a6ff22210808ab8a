"""Attention in the quantised network: the golden unit's integers, and what training sees of them.

Training drops features and leaves some unrounded, which integers cannot follow. It sees the real
softmax with weights rounded as the table rounds them; evaluation runs the golden unit itself.
"""

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sgq_hw.errors import InputError
from sgq_hw.formats import Format
from sgq_hw.golden.attention_unit import (
    SLOPE_CODE,
    SLOPE_SHIFT,
    AttentionTable,
    attention_sums,
    attention_table,
    edge_weights,
    fitting_norm_bits,
)
from sgq_hw.golden.fixed_point import code_range
from sgq_hw.layers import AgnnAttention, GatAttention
from sgq_hw.models.edges import Edges, edge_dots, edge_softmax, edge_sums, weighted_sums
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
    )  # fmt: skip
    return Attention(record, table, scale)


def choose_agnn(
    stage: PlannedStage, beta: float, channels: int, magnitude: int
) -> Attention:
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
        norm_bits=norm_bits, beta=code,
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
    logits = []
    if scores is not None:
        heads = scores.shape[1] // 2
        for head in range(heads):
            sums = edge_sums(scores[:, head], scores[:, heads + head], edges)
            logits.append(functional.leaky_relu(sums, SLOPE))
    else:
        assert beta is not None
        norms = hidden.norm(dim=1, keepdim=True)
        logits.append(edge_dots(hidden / torch.where(norms > 0, norms, 1.0), edges) * beta)
    channels = hidden.shape[1] // len(logits)
    means = []
    for head, values in enumerate(logits):
        weights = edge_softmax(values, edges)
        rows = hidden[:, head * channels : (head + 1) * channels]
        means.append(weighted_sums(replaced(weights, _rounded_weights(weights, edges, bits)),
                                   rows, edges))  # fmt: skip
    return torch.cat(means, dim=1)


def _rounded_weights(weights: torch.Tensor, edges: Edges, bits: int) -> torch.Tensor:
    """Return softmax weights as they are after rounding exponentials to `bits`."""
    values = weights.detach().numpy()
    powers = values / edges.spread(np.maximum, values)
    codes = np.floor(powers * (2**bits - 1) + 0.5)
    return torch.from_numpy(codes / edges.spread(np.add, codes))


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
    indptr, indices = (
        part.astype(np.int64) for part in (edges.pattern.indptr, edges.pattern.indices)
    )
    codes = (hidden.detach() / source.scale).numpy().astype(np.int64)
    weights = edge_weights(
        indptr, indices, attention.record, attention.table, codes, source.magnitude, scores
    ).codes
    numerator, factors, exponents = attention_sums(indptr, indices, weights, codes)
    return numerator * factors + (bias << exponents), exponents
