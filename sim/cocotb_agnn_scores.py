"""Bench of `agnn_scores`: rows of records, one or two open at a time, against the golden logits."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.attention_timing import agnn_latency
from sgq_hw.golden.attention_unit import agnn_bounds, agnn_logits, inverse_norms
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import draw_bits, draw_codes, pack, settings
from sgq_hw.sim.pipeline import Pipeline, Word

NODES = 6
NEIGHBOURS = 4
"""Most of a row, besides its node itself."""
BUBBLES = 0.2
"""Share of records that add nothing and have any words."""


class Scores:
    """The unit, with a graph, features and constants drawn for every pass."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        values = self.values
        latency = agnn_latency(values["LANES"], values["NORM_BITS"], values["STEPS"])
        widths = {
            "in_chunk": values["CHUNK_BITS"], "in_last_chunk": 1, "in_first": 1,
            "in_word": values["LANES"] * values["FEATURE_BITS"],
        }  # fmt: skip
        if values["SLOTS"] > 1:
            widths["in_slot"] = 1
        self.unit = Pipeline(dut, latency, widths, values["TAG_BITS"])
        self.unit.constants = {"beta": 0, "index_shift": 0}
        self.rng = self.unit.rng
        self.events: Counter[str] = Counter()

    def draw_features(self, channels: int) -> IntArray:
        """Draw rows of nodes: any codes, limits, short ones, zeros, parallel ones."""
        low, high, shape = self.values["low"], self.values["high"], (NODES, channels)
        features = draw_codes(self.rng, low, high, shape)
        short = draw_codes(self.rng, max(low, -1), 1, shape)
        limits = self.rng.choice([low, high], shape)
        kind = self.rng.integers(0, 5, NODES)[:, np.newaxis]
        features = np.choose(kind, [features, features, short, limits, 0 * features])
        first, second = self.rng.integers(0, NODES, 2)
        features[first] = np.clip(features[second] * self.rng.choice([-1, 1]), low, high)
        return features

    def draw_graph(self) -> tuple[IntArray, IntArray]:
        """Draw a CSR whose rows begin with their node itself."""
        rows = [
            [node, *self.rng.integers(0, NODES, self.rng.integers(0, NEIGHBOURS + 1))]
            for node in range(NODES)
        ]
        indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        return indptr, np.concatenate(rows).astype(np.int64)

    def order(self, indptr: IntArray) -> Iterator[tuple[int, int, bool]]:
        """Return slots of records, their edges (-1 for a bubble) and whether they are first."""
        slots = self.values["SLOTS"]
        rows = [list(range(slot, NODES, slots)) for slot in range(slots)]
        at = [int(indptr[own[0]]) for own in rows]
        # Often stays with a slot, so that a row's records also follow each other directly.
        slot, stay = 0, self.rng.choice([0.0, 0.5, 0.9])
        while any(rows):
            if not rows[slot] or self.rng.random() >= stay:
                slot = int(self.rng.choice([s for s in range(slots) if rows[s]]))
            row = rows[slot][0]
            first = at[slot] == indptr[row]
            if self.rng.random() < BUBBLES:
                yield slot, -1, first
                continue
            yield slot, at[slot], first
            at[slot] += 1
            if at[slot] == indptr[row + 1]:
                rows[slot].pop(0)
                at[slot] = int(indptr[rows[slot][0]]) if rows[slot] else 0

    def words(self) -> list[Word]:
        """Draw a pass: its constants, and the words of its records."""
        values, rng = self.values, self.rng
        limit = code_range(values["BETA_BITS"], True)[1]
        beta = int(rng.choice([0, 1, -1, limit, -limit, int(rng.integers(-limit, limit + 1))]))
        shift = int(rng.integers(0, values["BETA_BITS"] + 1))
        self.unit.constants = {
            "beta": pack([beta], values["BETA_BITS"]), "index_shift": shift
        }  # fmt: skip
        most = values["channels"]
        channels = int(rng.choice([1, most, int(rng.integers(1, most + 1))]))
        features, (indptr, indices) = self.draw_features(channels), self.draw_graph()
        logits = agnn_logits(
            indptr, indices, features, values["magnitude"], beta, values["BETA_BITS"],
            values["NORM_BITS"],
        )[:, 0]  # fmt: skip
        bound = int(agnn_bounds(1, beta)[0, 0]) + ((1 << shift) >> 1)
        lanes = values["LANES"]
        chunks = -(-channels // lanes)
        padded = np.pad(features, ((0, 0), (0, chunks * lanes - channels)))
        packed = [
            [pack(word, values["FEATURE_BITS"]) for word in row]
            for row in padded.reshape(NODES, chunks, lanes).tolist()
        ]
        found, before = [], (0, -1)
        for slot, edge, first in self.order(indptr):
            outputs = {"out_bound": bound}
            if edge >= 0:
                outputs["out_logit"] = pack([logits[edge]], values["BETA_BITS"])
            junk = draw_bits(rng, lanes * values["FEATURE_BITS"])
            for chunk in range(chunks):
                inputs = {
                    "in_chunk": chunk, "in_last_chunk": int(chunk == chunks - 1),
                    "in_first": int(first),
                    "in_word": junk if edge < 0 else packed[indices[edge]][chunk],
                }  # fmt: skip
                if values["SLOTS"] > 1:
                    inputs["in_slot"] = slot
                found.append(Word(inputs, outputs if chunk == chunks - 1 else None))
            follows = before == (slot, edge - 1) and edge > 0 and not first
            self.events["after itself"] += follows and edge - 1 in indptr
            self.events["change of slot"] += before[0] != slot
            before = slot, edge
        self.events["chunks"] += chunks > 1
        self.count(indptr, indices, features, beta, logits)
        return found

    def count(
        self, indptr: IntArray, indices: IntArray, features: IntArray, beta: int, logits: IntArray
    ) -> None:
        """Note which corners the records visit."""
        norms = inverse_norms(features, self.values["magnitude"], self.values["NORM_BITS"])
        rows = np.repeat(np.arange(NODES), np.diff(indptr))
        shifts = 2 * (norms.bits - 1) + norms.exponent[rows] + norms.exponent[indices]
        dot = (features[rows] * features[indices]).sum(axis=1)
        product = dot * norms.mantissa[rows] * norms.mantissa[indices] * beta
        rest = product & ((np.int64(1) << shifts) - 1)
        empty = norms.exponent == 0
        visits = {
            "zero node": empty[rows] & ~empty[indices], "zero neighbour": empty[indices],
            "whole": (logits == abs(beta)) & (beta != 0),
            "tie": rest == np.int64(1) << (shifts - 1), "rounded up": rest >> (shifts - 1) == 1,
            "below zero": logits < 0,
            "longest": norms.exponent[indices] == norms.exponent.max(initial=1),
        }  # fmt: skip
        self.events.update({name: int(hits.sum()) for name, hits in visits.items()})
        self.events.update({"beta 0": int(beta == 0), "negative beta": int(beta < 0)})


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def equals_the_golden_logits(dut: Any) -> None:
    """Passes of all widths, without gaps and with them, a row's records directly and mixed."""
    scores = Scores(dut)
    await scores.unit.start()
    for _ in range(scores.values["draws"]):
        await scores.unit.send(scores.words(), float(scores.rng.choice([0, 0, 0.3, 0.8])))
        await scores.unit.drain()
    missed = {name for name, hits in scores.events.items() if not hits}
    assert missed <= set(scores.values["absent"]), f"corners missed: {missed}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def reset_drops_what_is_in_flight(dut: Any) -> None:
    """Resets at any place, in the midst of a record too; a new pass follows without a pause."""
    scores = Scores(dut)
    await scores.unit.start()
    for _ in range(scores.values["draws"] // 2):
        words = scores.words()
        await scores.unit.send(words[: scores.rng.integers(1, len(words))], 0.1)
        for _ in range(scores.rng.integers(1, 3)):
            await scores.unit.cycle(words[0], rst=1)
        await scores.unit.send(scores.words(), 0.1)
        await scores.unit.drain()
