"""What the commands print: tables for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgq_hw.cost.memory_mapper import block_resource

if TYPE_CHECKING:
    from sgq_hw.budget import Budget
    from sgq_hw.cosim import CosimResult
    from sgq_hw.cost.devices import Device
    from sgq_hw.feature_memory import Amount, FeatureMemory
    from sgq_hw.generate import GeneratedDesign
    from sgq_hw.search.session import SearchResult
    from sgq_hw.slices import RegionPlan
    from sgq_hw.throughput import Throughput


MAX_PRINTED_PLANS = 7
"""The other ways to cut a region that are shown; the JSON file holds all of them."""


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def print_build_report(generated: "GeneratedDesign") -> None:
    """Print passes with their proved widths, and memories, of a generated folder."""
    console = _console()
    design = generated.design
    passes = _table("passes", "pass", "channels", "words", "bits", "accumulator bits", "sum bits")
    for step in design.passes:
        passes.add_row(
            step.name, str(step.out_channels), str(step.chunks),
            f"{step.bits}{'s' if step.signed else 'u'}", str(step.bound.accumulator_bits),
            str(step.bound.total_bits),
        )  # fmt: skip
    console.print(passes)
    memories = _table("memories", "memory", "copies", "width", "depth", "bits", "style")
    for memory in design.memories:
        memories.add_row(
            memory.name, str(memory.copies), str(memory.width), str(memory.depth),
            f"{memory.bits:,}", memory.style,
        )  # fmt: skip
    console.print(memories)
    if design.inputs_on_chip:
        from sgq_hw.input_forms import compare_inputs  # noqa: PLC0415

        console.print(compare_inputs(design, generated.bundle).text)
    console.print(
        escape(
            f"{generated.folder}: {len(generated.sources)} Verilog modules, bundle "
            f"{generated.bundle_hash}, {design.pes} x {design.lanes} slots"
        )
    )


def print_cosim(result: "CosimResult", command: str) -> None:
    """Print the verdict of a cosimulation; a mismatch names place, values and command."""
    console = _console()
    data = result.as_json()
    for mismatch in result.details[:10]:
        console.print(
            escape(
                f"mismatch: {mismatch.where} node {mismatch.node} channel {mismatch.channel}: "
                f"expected {mismatch.expected}, got {mismatch.got}, cycle {mismatch.cycle}"
            )
        )
    if data["cycles"]:
        console.print(
            f"{data['cycles']:,} cycles an inference (predicted {data['cycles_predicted']:,}), "
            f"latency {data['latency_cycles']:,}, {100 * data['utilisation']:.1f} % of the slots "
            f"useful; built in {result.build_seconds:.1f} s, ran in {result.run_seconds:.1f} s"
        )
    if result.equal:
        console.print(
            f"RTL equals golden model on every word: {result.words_compared:,} words compared"
        )
        return
    if result.message:
        console.print(escape(result.message))
    console.print(
        escape(
            f"RTL differs from golden model: {result.mismatches:,} mismatches, "
            f"{result.words_compared:,} words compared; reproduce with: {command}"
        )
    )


def print_budget(budget: "Budget") -> None:
    """Print memories, compression and devices."""
    console = _console()
    memories = _table("memories", "memory", "copies", "width", "depth", "bits")
    for memory in budget.design.memories:
        memories.add_row(
            memory.name, str(memory.copies), str(memory.width), str(memory.depth),
            f"{memory.bits:,}",
        )  # fmt: skip
    console.print(memories)
    print_features(budget.features)
    print_throughput(budget.throughput)
    if budget.inputs is not None:
        console.print(budget.inputs.text)
    hidden = budget.compression.hidden
    held = "included" if budget.inputs else f"{budget.input_bits:,} bits"
    console.print(
        f"on chip {budget.bits_total:,} bits, input {held}, fp32 {budget.bits_fp32:,} bits"
    )
    console.print(
        f"compression: features {budget.compression.features:.2f}x, "
        f"hidden {'-' if hidden is None else f'{hidden:.2f}x'}, "
        f"stored {budget.compression.stored:.2f}x, total {budget.compression.total:.2f}x"
    )
    if not budget.fits:
        return
    devices = _table("devices", "part", "block RAM", "of", "fits", "basis")
    for fit in budget.fits:
        basis = sorted({mapping.basis for _, mapping in fit.mappings})
        devices.add_row(
            escape(fit.device), f"{float(fit.block_ram_used):g}", str(fit.block_ram_available),
            "yes" if fit.fits else f"no: {fit.runs_out_first}", "/".join(basis),
        )  # fmt: skip
    console.print(devices)


def print_features(memory: "FeatureMemory") -> None:
    """Print what is kept of each tensor, and what other ways to keep it would take."""
    console = _console()
    tensors = _table(
        "feature memory", "result", "region", "bits", "average", "payload bits",
        "stored bits",
    )  # fmt: skip
    for entry in memory.tensors:
        tensors.add_row(
            entry.tensor.name, "-" if entry.region is None else str(entry.region),
            "/".join(map(str, entry.bucket_bits)), f"{entry.tensor.average_bits:.2f}",
            f"{entry.tensor.payload_bits:,}", f"{entry.stored_bits.get('built', 0):,}",
        )  # fmt: skip
    console.print(tensors)
    title = f"feature memory, ways to keep it (blocks: {block_resource(memory.family)})"
    ways = _table(title, "region", "kept as", "bits", "blocks", "LUTs")

    def add(region: str, way: str, taken: "RegionPlan | Amount") -> None:
        ways.add_row(region, way, f"{taken.bits:,}", f"{float(taken.blocks):g}", f"{taken.luts:,}")

    for region in memory.regions:
        index, built = str(region.index), region.plans["built"]
        add(index, f"built: {_cut(built)}", built)
        others = [plan for plan in region.alternatives if plan != built]
        for plan in others[:MAX_PRINTED_PLANS]:
            add(index, _cut(plan), plan)
        for name, plan in region.plans.items():
            if name != "built":
                add(index, name.replace("_", " "), plan)
    for name, amount in memory.totals.items():
        add("all", name.replace("_", " "), amount)
    if memory.collecting.bits:
        add("", "besides: collecting results", memory.collecting)
    console.print(ways)


def _cut(plan: "RegionPlan") -> str:
    return " + ".join(str(piece.bits) for piece in plan.slices) + " bits"


def print_throughput(throughput: "Throughput") -> None:
    """Print cycles and where the slots of an inference go."""
    console = _console()
    console.print(
        f"{throughput.cycles:,} cycles an inference, {throughput.per_second():,.0f} a second at "
        f"100 MHz; {100 * throughput.utilisation:.1f} % of the slots useful"
    )
    lost = sorted(throughput.lost_slots.items(), key=lambda item: -item[1])
    parts = [
        f"{name.replace('_', ' ')} {100 * count / throughput.slots:.1f} %"
        for name, count in lost
        if count
    ]
    console.print(f"lost: {', '.join(parts)}")


def print_arrays(arrays: "Sequence[Throughput]") -> None:
    """Print arrays of equally many slots, the fastest first."""
    console = _console()
    table = _table("arrays", "pes x lanes", "cycles", "useful", "stream bits", "memory bits")
    for array in arrays:
        memory = array.as_json()["memory_bits"]
        table.add_row(
            f"{array.design.pes} x {array.design.lanes}", f"{array.cycles:,}",
            f"{100 * array.utilisation:.1f} %", str(array.design.stream_bits), f"{memory:,}",
        )  # fmt: skip
    console.print(table)
    best = arrays[0].design
    console.print(f"best: --pes {best.pes} --lanes {best.lanes}")


def print_devices(devices: "Sequence[Device]") -> None:
    """Print the device table with sources."""
    console = _console()
    table = _table("devices", "part", "family", "block kbit", "source")
    for device in devices:
        table.add_row(
            escape(device.part), escape(device.family), str(device.total_block_kbits),
            escape(f"{device.confidence}: {device.source}"),
        )  # fmt: skip
    console.print(table)


def print_search(result: "SearchResult") -> None:
    """Print the Pareto front, the winner and the command that makes its bundle."""
    console = _console()
    data = result.as_json()
    front = _table("Pareto front", "trial", "memory bits", "val drop, points", "choices")
    for trial in result.front:
        measured = trial.outcome.measured
        assert measured is not None
        choices = " / ".join(map(str, result.space.choices(trial.point).values()))
        front.add_row(
            str(trial.id), f"{measured.memory_bits:,}", f"{result.goal.drop(measured):.2f}",
            escape(choices),
        )  # fmt: skip
    console.print(front)
    console.print(f"choices: {' / '.join(d.name for d in result.space.dimensions)}")
    failures = f", {data['failures']} could not be built" if data["failures"] else ""
    console.print(f"{data['trials']} trials{failures}")
    winner = data["winner"]
    if winner is None:
        console.print(f"no configuration drops at most {data['max_drop']:g} points; no winner")
        return
    compression = ", ".join(
        f"{name.removeprefix('compression_')} {'-' if value is None else f'{value:.2f}x'}"
        for name, value in winner["compression"].items()
        if name.startswith("compression_")
    )
    accuracy, float_accuracy = winner["accuracy"], data["accuracy_float"]
    console.print(
        f"winner: trial {winner['trial']}, {winner['memory_bits']:,} bits; compression: "
        f"{compression}\nval {accuracy['val']:.2f} % (float {float_accuracy['val']:.2f} %), "
        f"test {accuracy['test']:.2f} % (float {float_accuracy['test']:.2f} %)"
    )
    console.print(escape(result.command))
