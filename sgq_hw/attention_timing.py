"""Latencies of attention units (stub until the units are merged)."""
GAT_LATENCY = 4
WEIGHT_LATENCY = 5
def agnn_latency(norm_bits: int, steps: int) -> int:
    return 10 + 1 + -(-(norm_bits + 1) // steps)
def reciprocal_latency(steps: int) -> int:
    return 4 + 1 + 2 + -(-15 // steps) + 1
