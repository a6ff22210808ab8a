"""Parameters of the units that only networks with attention have, from the design."""

from sgq_hw.attention_schedule import NORM_STEPS, RECIPROCAL_STEPS
from sgq_hw.design import Design, address_bits, count_bits
from sgq_hw.golden.attention_unit import AgnnBound, agnn_bound
from sgq_hw.layers import AgnnAttention

Values = dict[str, int]


def attention_units(design: Design) -> dict[str, Values]:
    """Return unit to parameters, for the units that are no part of another one."""
    if not design.attention:
        return {}
    timing = design.timing
    groups, slots = design.head_groups, design.slots
    tag_bits = 3 + int(slots > 1)
    common = {"LANES": design.lanes, "CHUNK_BITS": address_bits(design.chunks)}
    shift_bits = count_bits(design.logit_bits)
    aligned_bits, mean_bits = design.mean_bits
    found: dict[str, Values] = {
        "attention_weights": {
            "HEAD_LANES": timing.head_lanes, "GROUPS": groups, "GROUP_BITS": address_bits(groups),
            "SLOTS": slots, "LOGIT_BITS": design.logit_bits, "SHIFT_BITS": shift_bits,
            "TABLES": len(design.attention), "TABLE_BITS": address_bits(len(design.attention)),
            "INDEX_BITS": design.table_bits, "WEIGHT_BITS": design.attention_bits,
            "DEN_BITS": design.denominator_bits,
            "EXPONENT_BITS": count_bits(design.denominator_bits), "STEPS": RECIPROCAL_STEPS,
        },
        "attention_epilogue": {
            "LANES": design.lanes, "NUM_BITS": design.numerator_bits,
            "EXPONENT_BITS": count_bits(design.denominator_bits), "BIAS_BITS": design.bias_bits,
            "ALIGNED_BITS": aligned_bits, "TOTAL_BITS": mean_bits,
            "SHIFT_BITS": design.shift_bits, "OUT_BITS": design.out_bits,
            "TAG_BITS": design.tag_bits,
        },
        "delay_line": {"WIDTH": design.step_bits, "DEPTH": timing.operand_depth},
    }  # fmt: skip
    if design.has_gat:
        slope_code, slope_shift = design.slope
        found["gat_scores"] = {
            **common, "SCORE_BITS": design.score_bits, "HEAD_LANES": timing.head_lanes,
            "SCORE_CHUNKS": max(step.score_chunks for step in design.passes),
            "GROUP_BITS": address_bits(groups), "SLOPE_CODE": slope_code,
            "SLOPE_SHIFT": slope_shift, "SHIFT_BITS": shift_bits, "TAG_BITS": tag_bits,
        }  # fmt: skip
    if design.has_agnn:
        found["agnn_scores"] = {
            **common, **_cosine_widths(design), "FEATURE_BITS": design.cosine_bits,
            "SLOTS": slots, "STEPS": NORM_STEPS, "BETA_BITS": design.beta_bits,
            "SHIFT_BITS": shift_bits, "TAG_BITS": tag_bits,
        }  # fmt: skip
    if design.activations:
        found["elu"] = {
            "LANES": design.lanes, "CODE_BITS": design.activation_bits,
            "DATA_BITS": design.out_bits, "TABLES": len(design.activations),
            "TABLE_BITS": address_bits(len(design.activations)), "TAG_BITS": design.tag_bits,
        }  # fmt: skip
    return found


def _cosine_widths(design: Design) -> Values:
    """Return the widths inside AGNN's scores, enough for all passes."""
    bounds: list[AgnnBound] = []
    product_bits = norm_bits = 0
    for step, one in zip(design.attention, design.attending, strict=True):
        if isinstance(one.rule, AgnnAttention):
            source = design.source_of(step)
            norm_bits, score_bits = one.rule.norm_bits, one.rule.score_bits
            bounds.append(
                agnn_bound(step.out_channels, source.magnitude, score_bits, norm_bits)
            )
            # All logits are cut out of products as if their factor had the bits of the widest.
            wider = design.beta_bits - score_bits
            product_bits = max(product_bits, bounds[-1].product_bits + wider)
    return {
        "SQUARE_BITS": max(bound.square_bits for bound in bounds),
        "NORM_BITS": norm_bits,
        "NORM_EXPONENT_BITS": max(bound.norm_exponent_bits for bound in bounds),
        "PRODUCT_BITS": product_bits,
    }
