"""Parameters of the stand-alone units of attention, as the tests build them."""

from typing import Any

from sgq_hw.design import address_bits, count_bits
from sgq_hw.golden.attention_unit import agnn_bound, attention_bound, epilogue_bits
from sgq_hw.render import render_unit
from tests.rtl.unit_runs import UnitRun


def with_tables(parameters: dict[str, int], tables: int) -> dict[str, int]:
    """Return parameters of a unit with so many tables to choose from."""
    chosen = parameters | {"TABLES": tables}
    return chosen | {"TABLE_BITS": address_bits(tables)} if tables > 1 else chosen


def leaky_slope(lanes: int, score_bits: int, slope_code: int, slope_shift: int) -> dict[str, int]:
    """Return the parameters of `leaky_slope` for sums of two scores."""
    return {
        "LANES": lanes, "IN_BITS": score_bits + 1, "SLOPE_SHIFT": slope_shift,
        "SLOPE_CODE": slope_code, "TAG_BITS": 5,
    }  # fmt: skip


def exponential(
    lanes: int, logit_bits: int, index_bits: int, weight_bits: int, tables: int = 1
) -> dict[str, int]:
    """Return the parameters of `exponential`."""
    parameters = {
        "LANES": lanes, "LOGIT_BITS": logit_bits, "SHIFT_BITS": count_bits(logit_bits),
        "INDEX_BITS": index_bits, "WEIGHT_BITS": weight_bits, "TAG_BITS": 5,
    }  # fmt: skip
    return with_tables(parameters, tables)


def gat_scores(
    lanes: int, head_lanes: int, chunks: int, score_bits: int = 12, slope_code: int = 13,
    slope_shift: int = 6, heads: int = 0, chunk_bits: int = 0,
) -> dict[str, int]:  # fmt: skip
    """Return the parameters of `gat_scores`.

    `heads` are as many as the words hold, and `chunk_bits` those that count the words, unless they
    are given.
    """
    groups = -(-(heads or lanes * chunks) // head_lanes)
    return {
        "LANES": lanes, "SCORE_BITS": score_bits, "HEAD_LANES": head_lanes,
        "SCORE_CHUNKS": chunks, "CHUNK_BITS": chunk_bits or address_bits(chunks),
        "GROUP_BITS": address_bits(groups), "SLOPE_CODE": slope_code, "SLOPE_SHIFT": slope_shift,
        "SHIFT_BITS": count_bits(score_bits + 1 + slope_shift), "TAG_BITS": 5,
    }  # fmt: skip


def attention_weights(
    head_lanes: int, groups: int, slots: int, logit_bits: int, index_bits: int, weight_bits: int,
    row_edges: int, steps: int, tables: int = 1,
) -> dict[str, int]:  # fmt: skip
    """Return the parameters of `attention_weights` for rows of so many edges at most."""
    den_bits = max(2, count_bits(row_edges * ((1 << weight_bits) - 1)))
    parameters = {
        "HEAD_LANES": head_lanes, "GROUPS": groups, "GROUP_BITS": address_bits(groups),
        "SLOTS": slots, "LOGIT_BITS": logit_bits, "SHIFT_BITS": count_bits(logit_bits),
        "INDEX_BITS": index_bits, "WEIGHT_BITS": weight_bits, "DEN_BITS": den_bits,
        "EXPONENT_BITS": count_bits(den_bits), "STEPS": steps,
    }  # fmt: skip
    return with_tables(parameters, tables)
def delay_line(width: int, depth: int) -> dict[str, int]:
    """Return the parameters of `delay_line`."""
    return {"WIDTH": width, "DEPTH": depth}


def reciprocal(den_bits: int, steps: int) -> dict[str, int]:
    """Return the parameters of `reciprocal`."""
    return {
        "DEN_BITS": den_bits, "EXPONENT_BITS": count_bits(den_bits), "STEPS": steps, "TAG_BITS": 5
    }  # fmt: skip


def inverse_norm(square_bits: int, norm_bits: int, steps: int) -> dict[str, int]:
    """Return the parameters of `inverse_norm`."""
    return {
        "SQUARE_BITS": square_bits, "NORM_BITS": norm_bits,
        "NORM_EXPONENT_BITS": count_bits((square_bits + 1) // 2), "STEPS": steps, "TAG_BITS": 5,
    }  # fmt: skip


def agnn_scores(
    lanes: int, channels: int, magnitude: int, score_bits: int, norm_bits: int, steps: int,
    slots: int, feature_bits: int = 0,
) -> dict[str, int]:  # fmt: skip
    """Return the parameters of `agnn_scores` from formats; by default the narrowest container."""
    bound = agnn_bound(channels, magnitude, score_bits, norm_bits)
    return {
        "LANES": lanes, "FEATURE_BITS": feature_bits or magnitude.bit_length() + 1,
        "CHUNK_BITS": address_bits(-(-channels // lanes)), "SLOTS": slots,
        "SQUARE_BITS": bound.square_bits, "NORM_BITS": norm_bits,
        "NORM_EXPONENT_BITS": bound.norm_exponent_bits, "STEPS": steps, "BETA_BITS": score_bits,
        "PRODUCT_BITS": bound.product_bits, "SHIFT_BITS": count_bits(score_bits), "TAG_BITS": 5,
    }  # fmt: skip


def attention_epilogue(
    lanes: int, row_edges: int, att_bits: int, magnitude: int, bias_bits: int, largest_shift: int,
    out_bits: int,
) -> dict[str, int]:  # fmt: skip
    """Return the parameters of `attention_epilogue` from formats and capacities."""
    bound = attention_bound(row_edges, att_bits, magnitude, bias_bits, largest_shift)
    aligned_bits, total_bits = epilogue_bits(magnitude, bias_bits, largest_shift)
    return {
        "LANES": lanes, "NUM_BITS": bound.numerator_bits,
        "EXPONENT_BITS": count_bits(bound.denominator_bits), "BIAS_BITS": max(bias_bits, 1),
        "ALIGNED_BITS": aligned_bits, "TOTAL_BITS": total_bits,
        "SHIFT_BITS": count_bits(largest_shift), "OUT_BITS": out_bits + 1, "TAG_BITS": 5,
    }  # fmt: skip


def elu(lanes: int, code_bits: int, data_bits: int, tables: int = 1) -> dict[str, int]:
    """Return the parameters of `elu`."""
    parameters = {
        "LANES": lanes, "CODE_BITS": code_bits, "DATA_BITS": data_bits, "TAG_BITS": 5
    }  # fmt: skip
    return with_tables(parameters, tables)


UNITS: dict[str, tuple[str, dict[str, int]]] = {
    "leaky_slope": ("leaky_slope", leaky_slope(4, 12, 13, 6)),
    "leaky_slope-1": ("leaky_slope", leaky_slope(1, 2, 1, 0)),
    "leaky_slope-256": ("leaky_slope", leaky_slope(1, 16, 256, 8)),
    "gat_scores": ("gat_scores", gat_scores(8, 1, 1)),
    "gat_scores-one": ("gat_scores", gat_scores(1, 1, 1, 8, 1, 0)),
    "gat_scores-words": ("gat_scores", gat_scores(4, 2, 3)),
    "gat_scores-few-heads": ("gat_scores", gat_scores(8, 1, 1, heads=2)),
    "gat_scores-chunks": ("gat_scores", gat_scores(4, 1, 2, chunk_bits=5)),
    "gat_scores-wide": ("gat_scores", gat_scores(16, 16, 2, 16, 51, 8, chunk_bits=4)),
    "attention_weights": ("attention_weights", attention_weights(1, 8, 2, 19, 8, 8, 4096, 2)),
    "attention_weights-one": ("attention_weights", attention_weights(1, 1, 1, 5, 4, 1, 1, 15)),
    "attention_weights-two": ("attention_weights", attention_weights(2, 1, 2, 8, 4, 4, 1, 4)),
    "attention_weights-groups": (
        "attention_weights", attention_weights(2, 3, 1, 25, 10, 12, 60, 3, tables=3)
    ),
    "delay_line": ("delay_line", delay_line(37, 32)),
    "delay_line-small": ("delay_line", delay_line(1, 4)),
    "exponential": ("exponential", exponential(1, 19, 8, 8)),
    "exponential-short": ("exponential", exponential(2, 3, 6, 1, tables=2)),
    "exponential-long": ("exponential", exponential(2, 25, 10, 12, tables=3)),
    "reciprocal": ("reciprocal", reciprocal(20, 2)),
    "reciprocal-slow": ("reciprocal", reciprocal(31, 1)),
    "reciprocal-small": ("reciprocal", reciprocal(2, 15)),
    "inverse_norm": ("inverse_norm", inverse_norm(19, 12, 2)),
    "inverse_norm-fast": ("inverse_norm", inverse_norm(31, 11, 11)),
    "inverse_norm-small": ("inverse_norm", inverse_norm(3, 2, 1)),
    "agnn_scores": ("agnn_scores", agnn_scores(4, 64, 255, 12, 12, 2, 2)),
    "agnn_scores-small": ("agnn_scores", agnn_scores(1, 1, 1, 2, 2, 1, 1)),
    "agnn_scores-odd": ("agnn_scores", agnn_scores(5, 3, 127, 8, 9, 9, 1)),
    "agnn_scores-wide": ("agnn_scores", agnn_scores(16, 40, 4095, 16, 9, 3, 2, 14)),
    "attention_epilogue": ("attention_epilogue", attention_epilogue(4, 4096, 8, 127, 24, 20, 8)),
    "attention_epilogue-small": ("attention_epilogue", attention_epilogue(1, 1, 1, 1, 0, 1, 1)),
    "attention_epilogue-wide": (
        "attention_epilogue", attention_epilogue(2, 60, 12, 4096, 30, 29, 16)
    ),
    "elu": ("elu", elu(4, 8, 8)),
    "elu-small": ("elu", elu(1, 2, 16, tables=3)),
    "elu-large": ("elu", elu(2, 12, 17, tables=2)),
}  # fmt: skip
"""Name of the case to the unit and its parameters."""


def unit_job(name: str, parameters: dict[str, int], **settings: Any) -> UnitRun:
    """Return the run of a stand-alone unit; the bench gets the parameters and the settings."""
    return UnitRun(name, render_unit(name, parameters), {**parameters, **settings})
