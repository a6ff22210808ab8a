"""Latencies of the units of attention, in cycles: what delay lines and the cycle model wait for."""

from sgq_hw.golden.attention_unit import RECIPROCAL_SHIFT

GAT_LATENCY = 4
"""`gat_scores`: from the first word of a record to its group 0, if no gap comes between words."""

WEIGHT_LATENCY = 5
"""`attention_weights`: from a group to its weights."""


def reciprocal_latency(steps: int) -> int:
    """Return the cycles of `attention_weights` from a group of a row's last record to its means.

    They are the row's reciprocals and exponents.

    Args:
        steps: Quotient bits that a reciprocal finds in a cycle.
    """
    return WEIGHT_LATENCY + 3 + -(-RECIPROCAL_SHIFT // steps)


def inverse_norm_latency(norm_bits: int, steps: int) -> int:
    """Return the cycles from a sum of squares to its reciprocal norm.

    Args:
        norm_bits: Width of a mantissa.
        steps: Its bits that are found in a cycle.
    """
    return 2 + -(-norm_bits // steps)


def agnn_latency(lanes: int, norm_bits: int, steps: int) -> int:
    """Return the cycles from the last chunk of a record to its logit.

    Word, products, sums of the lanes (a cycle for each halving) and of the chunks; the norm; then
    its products, the product with the row's, alignment, rounding.

    Args:
        lanes: Of a word.
        norm_bits: Width of a mantissa.
        steps: Its bits that are found in a cycle.
    """
    return 3 + (lanes - 1).bit_length() + inverse_norm_latency(norm_bits, steps) + 4
