"""`python -m benchmarks.attention_error`: error of integer attention against its bit widths.

Real graphs give the topology, self loops added; scores and features are random with a fixed seed,
so that the spread of the logits is known and the same everywhere. Features are the same integer
codes on both sides and results keep a fine grid: what remains is the error of attention itself.
Writes docs/results/attention.md and attention.json.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sgq_hw.files import write_text
from sgq_hw.golden.attention_unit import (
    AttentionTable,
    agnn_bounds,
    agnn_logits,
    attention_table,
    attention_unit,
    attention_weights,
    gat_bounds,
    gat_logits,
)
from sgq_hw.golden.fixed_point import IntArray, decode, encode
from sgq_hw.graphs import data_folder, load_graph, with_self_loops

FloatArray = npt.NDArray[np.float64]

SEED = 1
HEADS, CHANNELS = 8, 8  # GAT's first layer on the citation graphs
SLOPE = 0.2
SCORE_SPREAD = 1.0  # standard deviation of s and of t: logits spread by 1.4
BETA = 2.0
ATT_BITS = (2, 4, 6, 8, 10, 12)
SCORE_BITS = (6, 8, 10, 12)
LENGTHS = (64, 256, 1024)
NORM_BITS = (4, 6, 8, 10, 12)
FEATURE_BITS = 8
FRACTION_BITS = 7  # of the result, below the features' grid: rounding adds 2**-8 of a code
RECIPROCAL_GRID = 15
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
COMMAND = "python -m benchmarks.attention_error"


@dataclass(frozen=True)
class Case:
    """One topology with its random operands.

    Attributes:
        name: of the graph.
        indptr: int64 [n + 1].
        indices: int64 [e], self loops included.
        features: int64 [n, HEADS * CHANNELS], signed codes.
        target: float64 [n, HEADS], scores s.
        source: float64 [n, HEADS], scores t.
    """

    name: str
    indptr: IntArray
    indices: IntArray
    features: IntArray
    target: FloatArray
    source: FloatArray

    @property
    def rows(self) -> IntArray:
        """Row of each edge, int64 [e]."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def make_case(name: str) -> Case:
    """Draw scores and features on a graph's topology.

    A node's features share a lognormal magnitude, so that norms differ by more than tenfold.
    """
    indptr, indices = with_self_loops(load_graph(name))
    rng = np.random.default_rng(SEED)
    nodes = len(indptr) - 1
    target, source = (rng.normal(0, SCORE_SPREAD, (nodes, HEADS)) for _ in range(2))
    magnitude = np.exp(rng.normal(2.5, 1.0, (nodes, 1)))
    values = rng.normal(0, 1, (nodes, HEADS * CHANNELS)) * magnitude
    features = encode(values, 1.0, FEATURE_BITS, signed=True)
    return Case(name, indptr, indices, features, target, source)


def float_attention(case: Case, logits: FloatArray, features: IntArray) -> FloatArray:
    """Softmax over each row and weighted mean, in float64, [n, channels] (every row has edges)."""
    starts = case.indptr[:-1]
    weights = np.exp(logits - np.maximum.reduceat(logits, starts, axis=0)[case.rows])
    weights /= np.add.reduceat(weights, starts, axis=0)[case.rows]
    channels = features.shape[1] // logits.shape[1]
    parts = [
        np.add.reduceat(
            weights[:, head, np.newaxis]
            * features[case.indices, head * channels : (head + 1) * channels],
            starts,
            axis=0,
        )
        for head in range(logits.shape[1])
    ]
    return np.concatenate(parts, axis=1)


def integer_attention(
    case: Case, logits: IntArray, bounds: IntArray, table: AttentionTable, features: IntArray
) -> tuple[FloatArray, int]:
    """Return the attended features on the grid of the features, and how many rows were lost."""
    weights = attention_weights(case.indptr, logits, bounds, table)
    result = attention_unit(
        case.indptr,
        case.indices,
        weights.codes,
        features,
        att_bits=table.bits,
        magnitude=1 << (FEATURE_BITS - 1),
        bias=np.zeros(1, np.int64),
        bias_bits=0,
        shift=RECIPROCAL_GRID - FRACTION_BITS,
        bits=16,
        signed=True,
    )
    return decode(result, 2.0**-FRACTION_BITS), weights.zeroed


def errors(result: FloatArray, exact: FloatArray) -> dict[str, float]:
    """Mean and largest absolute error in percent of the root mean square of the exact result."""
    difference = np.abs(result - exact) * (100 / np.sqrt(np.mean(exact**2)))
    return {"mean": round(float(difference.mean()), 3), "max": round(float(difference.max()), 2)}


def score_scale(case: Case, bits: int) -> float:
    """Return the smallest power of two with which no score saturates."""
    peak = max(np.abs(case.target).max(), np.abs(case.source).max())
    return float(2.0 ** np.ceil(np.log2(peak / ((1 << (bits - 1)) - 1))))


def study_gat(case: Case) -> list[dict[str, Any]]:
    """Sweep weight bits, score bits and table lengths, and both bounds."""
    sums = case.target[case.rows] + case.source[case.indices]
    exact = float_attention(case, np.where(sums >= 0, sums, SLOPE * sums), case.features)
    records = []
    for score_bits in SCORE_BITS:
        scale = score_scale(case, score_bits)
        target = encode(case.target, scale, score_bits, signed=True)
        source = encode(case.source, scale, score_bits, signed=True)
        scores = (case.indptr, case.indices, target, source)
        logits = gat_logits(*scores, score_bits)
        runs: list[tuple[int, int, Literal["row", "global"]]]
        runs = [(bits, 256, "row") for bits in ATT_BITS]
        if score_bits == SCORE_BITS[-1]:
            runs += [(bits, length, "row") for bits in (8, 12) for length in LENGTHS]
            runs += [(bits, 256, "global") for bits in ATT_BITS]
        for bits, length, kind in dict.fromkeys(runs):
            bounds = gat_bounds(*scores, kind, score_bits)
            table = attention_table(bits, scale / 64, length)
            result, zeroed = integer_attention(case, logits, bounds, table, case.features)
            records.append(
                {
                    "graph": case.name, "model": "gat", "score_bits": score_bits,
                    "att_bits": bits, "table": length, "bound": kind,
                    "step": scale / 64 * 2**table.index_shift, "zeroed": zeroed,
                    **errors(result, exact),
                }
            )  # fmt: skip
    return records


def study_agnn(case: Case) -> list[dict[str, Any]]:
    """Sweep the width of the reciprocal norms, at 8-bit weights and 12-bit logits."""
    features = case.features[:, : 2 * CHANNELS]
    norms = np.sqrt((features**2).sum(axis=1))
    unit = features / np.maximum(norms, 1e-12)[:, np.newaxis]
    cosines = np.einsum("ec,ec->e", unit[case.rows], unit[case.indices])
    exact = float_attention(case, BETA * cosines[:, np.newaxis], features)
    beta, scale = 1 << 10, BETA / (1 << 10)
    table = attention_table(8, scale, 256, 2 * beta)
    bounds = agnn_bounds(len(case.indptr) - 1, beta)
    records = []
    for norm_bits in NORM_BITS:
        magnitude = 1 << (FEATURE_BITS - 1)
        logits = agnn_logits(
            case.indptr, case.indices, features, magnitude, beta, norm_bits=norm_bits
        )
        result, zeroed = integer_attention(case, logits, bounds, table, features)
        worst = np.abs(logits[:, 0] * scale - BETA * cosines).max()
        records.append(
            {
                "graph": case.name, "model": "agnn", "norm_bits": norm_bits, "zeroed": zeroed,
                "logit_error": round(float(worst), 5), **errors(result, exact),
            }
        )  # fmt: skip
    return records


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def shown(record: dict[str, Any]) -> str:
    """Return mean and largest error of a record."""
    return f"{record['mean']:.2f} / {record['max']:.1f}"


def report(cases: list[Case], records: list[dict[str, Any]]) -> str:
    """Return the study as Markdown."""
    text = f"""# Error of integer attention

Made by `{COMMAND}`; all numbers are in attention.json.
Topology of real graphs with self loops, {HEADS} heads of {CHANNELS} channels, scores s and t normal
with standard deviation {SCORE_SPREAD}, {FEATURE_BITS}-bit features, seed {SEED}.

Entries are **mean / largest error of the attended features, in percent of their root mean square**,
against float64 softmax attention with slope {SLOPE} and the same feature codes. The error includes
scores, slope 13/64, table, reciprocal and a result grid of 2^-{FRACTION_BITS} feature codes.
What follows from the numbers stands in docs/arithmetic.md.

"""
    for case in cases:
        degree = int(np.diff(case.indptr).max())
        mine = [record for record in records if record["graph"] == case.name]
        gat = [record for record in mine if record["model"] == "gat"]
        base = [r for r in gat if r["table"] == 256 and r["bound"] == "row"]
        text += f"## {case.name}: {len(case.indices)} edges, longest row {degree}\n\n"
        text += "GAT, exact row maximum, table of 256:\n\n"
        text += markdown_table(
            ["score_bits \\ att_bits", *map(str, ATT_BITS)],
            [
                [str(bits), *[shown(r) for r in base if r["score_bits"] == bits]]
                for bits in SCORE_BITS
            ],
        )
        text += "\nTable length, 12-bit scores:\n\n"
        text += markdown_table(
            ["att_bits", "length", "step", "error"],
            [
                [str(bits), str(r["table"]), f"{r['step']:g}", shown(r)]
                for bits in (8, 12)
                for length in LENGTHS
                for r in gat
                if (r["att_bits"], r["table"]) == (bits, length)
                and (r["score_bits"], r["bound"]) == (SCORE_BITS[-1], "row")
            ],
        )
        pairs = HEADS * (len(case.indptr) - 1)
        text += "\nGlobal bound, 12-bit scores, table of 256. Lost are the pairs of row and head\n"
        text += f"without any weight, of {pairs}:\n\n"
        text += markdown_table(
            ["att_bits", "lost", "error"],
            [
                [str(r["att_bits"]), str(r["zeroed"]), shown(r)]
                for r in gat
                if r["bound"] == "global"
            ],
        )
        text += "\nAGNN, beta = 2, 8-bit weights, 12-bit logits:\n\n"
        text += markdown_table(
            ["norm_bits", "largest error of a logit", "error"],
            [
                [str(r["norm_bits"]), f"{r['logit_error']:.4f}", shown(r)]
                for r in mine
                if r["model"] == "agnn"
            ],
        )
        text += "\n"
    return text.rstrip("\n") + "\n"


def main() -> None:
    """Run the study and write its two files."""
    folder = data_folder()
    names = [
        name
        for name in ("cora", "amazon_computers")
        if folder is not None and (folder / f"{name}.npz").is_file()
    ]
    cases = [make_case(name) for name in names or ["karate"]]
    records = [record for case in cases for record in (*study_gat(case), *study_agnn(case))]
    write_text(FOLDER / "attention.md", report(cases, records))
    lines = ",\n".join(json.dumps(record, sort_keys=True) for record in records)
    write_text(FOLDER / "attention.json", f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
