"""`make bench`: start-up, generation, golden model and simulation speed, medians and ratios."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cosim import cosim
from sgq_hw.generate import generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.graphs import data_folder, load_graph
from sgq_hw.models.catalogue import inputs_for
from sgq_hw.models.fit import predict_logits
from sgq_hw.models.gcn import GCN
from sgq_hw.quantize.config import uniform_config
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.train import TrainedModel, train

RUNS = 9


def median_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median wall time of some runs after a warm-up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def command(*arguments: str) -> Callable[[], object]:
    """Return a function that runs the command line in a process of its own."""
    line = [sys.executable, "-m", "sgq_hw", *arguments]
    return lambda: subprocess.run(line, capture_output=True, check=True)


def golden_ratio(name: str, trained: TrainedModel, bundle: Bundle) -> float:
    """Return the golden model's time over PyTorch's float forward pass on the same graph."""
    graph = load_graph(name)
    network = GCN.from_arrays(trained.parameters)
    inputs = inputs_for(GCN, graph)
    floats = median_seconds(lambda: predict_logits(network, inputs))
    integers = median_seconds(lambda: run_golden(bundle.network, bundle.workload))
    return integers / floats


def main() -> None:
    """Measure and print one table."""
    torch.set_num_threads(1)
    table = Table("what", "median", "target")
    name = "cora" if data_folder() else "karate"
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        trained = train(load_graph(name), epochs=20)
        bundle = quantize(trained, load_graph(name), uniform_config(4, 2))
        save_bundle(folder / "q.npz", bundle)
        bare = median_seconds(
            lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 5
        )
        for label, arguments, target in (
            ("--help", ("--help",), "0.3 s"),
            ("budget --all", ("budget", str(folder / "q.npz"), "--all"), "1 s"),
            ("generate", ("generate", str(folder / "q.npz"), "-o", str(folder / "rtl")), "2 s"),
        ):
            seconds = median_seconds(command(*arguments), 5)
            shown = f"{seconds:.2f} s, {seconds / bare:.0f} x bare Python"
            table.add_row(f"{label} ({name})", shown, target)
        ratio = golden_ratio(name, trained, bundle)
        table.add_row(f"golden / PyTorch float ({name})", f"{ratio:.2f}", "1.00")
        if data_folder():
            large = load_graph("amazon_computers")
            other = train(large, epochs=3)
            ratio = golden_ratio(large.name, other, quantize(other, large, uniform_config(4, 2)))
            table.add_row(f"golden / PyTorch float ({large.name})", f"{ratio:.2f}", "1.00")
        generated = generate(folder / "q.npz", folder / "rtl")
        result = cosim(generated)
        speeds = [cosim(generated).as_json()["cycles_per_second"] for _ in range(3)]
        table.add_row(f"simulation ({name})", f"{statistics.median(speeds):,.0f} cycles/s", "1 M")
        table.add_row("cold build", f"{result.build_seconds:.1f} s (0 if cached)", "-")
    Console().print(table)


if __name__ == "__main__":
    main()
