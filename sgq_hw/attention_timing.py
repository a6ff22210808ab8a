"""Cycles between the words of the attention units, from the parameters they are built with."""


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
