"""Useful slots of whole GCN-16 inferences: the best array of 16, 64 and 256 slots on each graph.

Every row is generated, simulated and compared with the golden model on every word; rows are
appended to `docs/results/throughput.json` as they finish, and a second call goes on from there.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.pubmed import filled_pubmed
from sgq_hw.bundle import Bundle, load_bundle, save_bundle
from sgq_hw.cosim import cosim
from sgq_hw.errors import ToolError
from sgq_hw.files import write_text
from sgq_hw.generate import generate
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.quantize.config import uniform_config
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.throughput import arrays_of
from sgq_hw.train import train

RESULTS, REPORT = Path("docs/results/throughput.json"), Path("docs/results/throughput.md")
WORK = Path("build/throughput")
SLOTS = (16, 64, 256)
GRAPHS: dict[str, Callable[[], Graph]] = {
    "cora": lambda: load_graph("cora"),
    "citeseer": lambda: load_graph("citeseer"),
    "pubmed": filled_pubmed,
    "dblp": lambda: load_graph("dblp"),
    "amazon_computers": lambda: load_graph("amazon_computers"),
}
BITS = 4
CLOCK_NOTE = "cycles alone; clocks differ by device"
HEADINGS = (
    "graph", "slots", "pes x lanes", "cycles", "predicted", "useful", "zeros", "padding",
    "fill, drain", "imbalance", "conflicts", "stalls", "stream", "bits a cycle",
)  # fmt: skip
PEERS = """
| peer | what | slots | cycles | useful | how obtained |
|---|---|---|---|---|---|
| GCNAX (HPCA 2021) | GCN on Cora | 16 | 2.0e5 | 42 % | its authors' simulator; share derived |
| GCNAX | GCN on Citeseer | 16 | 2.5e5 | 56 % | the same |
| GCNAX | GCN on Pubmed | 16 | 1.8e6 | 64 % | the same |
| AWB-GCN, resized by them | the same three | 16 | 2.6e5, 3.9e5, 2.9e6 | 32, 36, 40 % | the same |
| FlowGNN (HPCA 2023) | GCN 100 x 5 on molhiv | 400 | 7,037 a graph | 45 % | on a board; derived |
"""


def bundle_of(name: str) -> Bundle:
    """Return the network of a graph: GCN-16, 4 bits, fine-tuned, seed 0."""
    path = WORK / f"{name}.npz"
    if not path.is_file():
        graph = GRAPHS[name]()
        trained = train(graph, epochs=50)
        config = uniform_config(BITS, trained.num_layers)
        save_bundle(path, quantize(trained, graph, config, tuning=FineTuning(epochs=20)))
    return load_bundle(path)


def measure(name: str, slots: int) -> dict[str, Any]:
    """Simulate the best array of so many slots."""
    bundle = bundle_of(name)
    best = arrays_of(bundle, slots)[0]
    design = best.design
    with tempfile.TemporaryDirectory() as folder:
        made = generate(
            WORK / f"{name}.npz", Path(folder) / "rtl", pes=design.pes, lanes=design.lanes
        )
        result = cosim(made, timeout_seconds=3600)
    if not result.equal:
        raise ToolError(f"{name}, {slots} slots: {result.mismatches} mismatches {result.message}")
    data = result.as_json()
    first = design.passes[0]
    return {
        "graph": name, "slots": slots, "pes": design.pes, "lanes": design.lanes,
        "words_compared": result.words_compared, "stream_bits": design.stream_bits,
        # Of the first pass, which is the one that streams.
        "stream_bits_per_cycle": design.input_word_bits / first.chunks,
        **{key: data[key] for key in (
            "cycles", "cycles_predicted", "useful_macs", "utilisation", "lost_slots",
            "mac_slots")},
    }  # fmt: skip


def report(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown page."""
    lines = [
        "# Throughput",
        "",
        "Whole inferences of GCN-16 at 4 bits, weights and graph on chip, inputs streamed, results",
        "drained; every word equal to the golden model. The best array of each number of slots, as",
        "`sgq-hw budget --fit` proposes it. *Useful* slots multiply non-zero integers for a real",
        "channel. Lost slots in percent of all; computed zeros are hidden features that are zero.",
        "Pubmed's graph is the published one, its missing input rows are made up at the same",
        "density. Reproduce with `python -m benchmarks.throughput`.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---" * len(HEADINGS) + "|",
    ]
    for row in rows:
        lost = {name: 100 * value / row["mac_slots"] for name, value in row["lost_slots"].items()}
        shares = [
            lost["computed_zeros"], lost["lane_padding"], lost["fill_drain"],
            lost["row_imbalance"], lost["bank_conflict"],
            lost["input_stall"] + lost["output_stall"],
        ]  # fmt: skip
        fields = [
            row["graph"], str(row["slots"]), f"{row['pes']} x {row['lanes']}",
            f"{row['cycles']:,}", f"{row['cycles_predicted']:,}",
            f"{100 * row['utilisation']:.1f} %", *(f"{share:.1f}" for share in shares),
            str(row["stream_bits"]), f"{row['stream_bits_per_cycle']:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(fields) + " |")
    lines += ["", f"Published figures of others ({CLOCK_NOTE}):", PEERS.rstrip(), ""]
    return "\n".join(lines)


@click.command()
@click.option("--graphs", default=",".join(GRAPHS), show_default=True)
@click.option("--slots", default=",".join(map(str, SLOTS)), show_default=True)
def main(graphs: str, slots: str) -> None:
    """Measure the rows that are missing, append each at once, print the table."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    done = {(row["graph"], row["slots"]) for row in rows}
    for count in map(int, slots.split(",")):
        for name in graphs.split(","):
            if (name, count) in done:
                continue
            rows.append(measure(name, count))
            order = list(GRAPHS)
            rows.sort(key=lambda row: (order.index(row["graph"]), row["slots"]))
            write_text(RESULTS, json.dumps(rows, indent=1) + "\n")
            write_text(REPORT, report(rows))
    Console().print(report(rows), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
