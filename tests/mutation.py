"""Mutants: single faults in the templates, each of which a bench must find.

`tests/mutants.toml` lists them. `python -m tests.mutation` renders each with its fault, runs the
benches that it names until one fails, and writes a table and a report. It exits 1 if a mutant
survives, if its text is no longer in the template, if it is no legal Verilog, or if a bench fails
without any fault.
"""

import argparse
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import FunctionLoader
from rich.console import Console
from rich.table import Table

from sgq_hw.errors import SourceError
from sgq_hw.render import environment
from sgq_hw.sim.runner import Simulator, find_icarus
from tests.rtl import (
    test_accelerator,
    test_aggregation_unit,
    test_agnn_scores,
    test_attention_weights,
    test_axil_registers,
    test_bank_crossbar,
    test_bus_model,
    test_combination_unit,
    test_degree_window,
    test_delay_line,
    test_feature_buffer,
    test_gat_scores,
    test_input_reader,
    test_input_unpacker,
    test_inverse_norm,
    test_mac_array,
    test_output_buffer,
    test_output_stream,
    test_pass_sequencer,
    test_performance_counters,
    test_ram,
    test_random_networks,
    test_requantize,
    test_rom,
    test_schedule_checker,
    test_serial_expander,
    test_stream_loader,
    test_stream_register,
)
from tests.rtl.unit_runs import UnitRun, failure_of

LIST = Path(__file__).with_name("mutants.toml")
REPORT = Path("build/mutants.json")
SHOWN = 60
"""Characters of a fault or a message in the table."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    Attributes:
        template: Name of the template, without its ending.
        old: Text that is in it once.
        new: What stands there instead.
        why: Why that is a fault.
        benches: Those that may find it, in this order; names of `BENCHES`, or a build of the random
            networks.
        quick: Whether it is one of the few that every test run tries.
    """

    template: str
    old: str
    new: str
    why: str
    benches: tuple[str, ...]
    quick: bool = False

    @property
    def edit(self) -> str:
        """The fault on one line."""
        return " ".join(f"{self.old} -> {self.new or 'nothing'}".split())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: The mutant.
        killed_by: The bench that failed, or "".
        reason: Its complaint, or why the mutant counts for nothing.
        seconds: Wall time.
    """

    mutant: Mutant
    killed_by: str
    reason: str
    seconds: float


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """Return the mutants of a list."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Mutant(**{**each, "benches": tuple(each["benches"])}) for each in data["mutants"]]


@contextmanager
def planted(template: str, old: str, new: str) -> Iterator[None]:
    """Let everything that is rendered meanwhile come from a faulty template.

    Raises:
        LookupError: the old text is not there exactly once.
    """
    env = environment()
    loader = env.loader
    assert loader is not None
    file = f"{template}.v.j2"
    text = loader.get_source(env, file)[0]
    if text.count(old) != 1:
        raise LookupError(f"{file}: the text is there {text.count(old)} times: {old}")
    env.loader = FunctionLoader(
        lambda name: text.replace(old, new) if name == file else loader.get_source(env, name)[0]
    )
    _forget()
    try:
        yield
    finally:
        env.loader = loader
        _forget()


def _forget() -> None:
    """Drop what was rendered before."""
    cache = environment().cache
    assert cache is not None
    cache.clear()
    test_accelerator.job.cache_clear()
    test_bus_model.job.cache_clear()


Job = Callable[[], UnitRun]


def _ports(pes: int, testcase: str | None = None) -> Job:
    return lambda: replace(test_accelerator.job(pes), testcase=testcase)


def _bus(testcase: str) -> Job:
    return lambda: replace(test_bus_model.job("one-dense-64"), testcase=testcase)


BENCHES: dict[str, tuple[Simulator, Job]] = {
    "aggregation_unit": ("icarus", lambda: test_aggregation_unit.job("pe2-edge", 6)),
    "aggregation_unit streamed": ("icarus", lambda: test_aggregation_unit.job("pes2-streamed", 6)),
    "attention_weights": ("icarus", lambda: test_attention_weights.job("groups of two")),
    "attention_weights one": ("icarus", lambda: test_attention_weights.job("one head")),
    "agnn_scores": ("icarus", lambda: test_agnn_scores.job("two-slots")),
    "agnn_scores one": ("icarus", lambda: test_agnn_scores.job("one-slot")),
    "axil_registers": ("icarus", lambda: test_axil_registers.job(5, 32)),
    "bank_crossbar": ("icarus", lambda: test_bank_crossbar.job(4)),
    "bank_crossbar one": ("icarus", lambda: test_bank_crossbar.job(1)),
    "combination_unit": ("icarus", lambda: test_combination_unit.job("pe2-lanes3-deep")),
    "combination_unit dense": ("icarus", lambda: test_combination_unit.job("pe2-dense")),
    "degree_window": ("icarus", lambda: test_degree_window.job("four")),
    "delay_line": ("icarus", lambda: test_delay_line.job("small")),
    "feature_buffer": ("icarus", lambda: test_feature_buffer.job("pe2-lanes3")),
    "gat_scores": ("icarus", lambda: test_gat_scores.job("two of four, words")),
    "gat_scores three": ("icarus", lambda: test_gat_scores.job("one of three, words")),
    "gat_scores straight": ("icarus", lambda: test_gat_scores.job("all, words")),
    "feature_buffer rows": ("icarus", lambda: test_feature_buffer.row_job("pe2-4-regions")),
    "feature_buffer rows, windows": (
        "icarus", lambda: test_feature_buffer.row_job("windows-pe2-faults"),
    ),
    "input_reader": ("icarus", lambda: test_input_reader.job("pes4")),
    "input_unpacker words": ("icarus", lambda: test_input_unpacker.job("pes2", 4)),
    "input_unpacker beats": ("icarus", lambda: test_input_unpacker.job("pes8-long", 4)),
    "inverse_norm": ("icarus", lambda: test_inverse_norm.job(8, 10, 3)),
    "mac_array": ("icarus", lambda: test_mac_array.job("pe2-lanes5-edge", 4)),
    "mac_array all": ("icarus", lambda: test_mac_array.job("pe2-all", 8)),
    "mac_array one": ("icarus", lambda: test_mac_array.job("pe1-lanes1-binary", 4)),
    "output_buffer": ("icarus", lambda: test_output_buffer.job("chunks")),
    "output_buffer one": ("icarus", lambda: test_output_buffer.job("alone")),
    "output_stream": ("icarus", lambda: test_output_stream.job("short-end")),
    "pass_sequencer": ("icarus", lambda: test_pass_sequencer.job("two-layers")),
    "pass_sequencer bias": ("icarus", lambda: test_pass_sequencer.job("three-layers")),
    "pass_sequencer windows": ("icarus", lambda: test_pass_sequencer.job("windows")),
    "performance_counters": ("icarus", lambda: test_performance_counters.job(16, 5)),
    "ram": ("icarus", lambda: test_ram.job(8, 16)),
    "requantize": ("icarus", lambda: test_requantize.job("lanes3")),
    "requantize addend": ("icarus", lambda: test_requantize.job("lanes3", factor_bits=5)),
    "requantize windows": ("icarus", lambda: test_requantize.job("windows2")),
    "rom": ("icarus", lambda: test_rom.job(16, 64)),
    "schedule_checker": ("icarus", lambda: test_schedule_checker.job(4)),
    "schedule_checker one": ("icarus", lambda: test_schedule_checker.job(1)),
    "serial_expander": ("icarus", lambda: test_serial_expander.job("pes2-signed", 10)),
    "stream_loader": ("icarus", lambda: test_stream_loader.job("64")),
    "stream_loader 32": ("icarus", lambda: test_stream_loader.job("32-edge-values")),
    "stream_loader windows": ("icarus", lambda: test_stream_loader.job("windows")),
    "stream_register": ("icarus", lambda: test_stream_register.job(32)),
    "ports one, interrupt": ("icarus", _ports(1, "the_interrupt_follows_the_result")),
    "ports four, slots": ("verilator", _ports(4, "twenty_back_to_back")),
    "ports four, wait": ("verilator", _ports(4, "nobody_receives")),
    "bus resets": ("icarus", _bus(test_bus_model.RESETS)),
    "bus release": ("icarus", _bus("the_release_of_a_reset")),
    "bus bytes": ("icarus", _bus("a_byte_is_missing")),
}
"""Runs of the unit benches, and of the two benches around the whole accelerator."""


def _check_sources(sources: Sequence[Path]) -> None:
    command = [str(find_icarus().executable), "-g2005", "-Wall", "-t", "null"]
    done = subprocess.run(
        [*command, "-s", "sgq_accelerator", *map(str, sources)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or done.stdout or done.stderr:
        raise SourceError((done.stdout + done.stderr).splitlines()[0])


def complaint_of(bench: str, folder: Path) -> str:
    """Run a bench with the templates as they are now; return what it complains of, or "".

    Raises:
        SourceError: the Verilog is not legal.
    """
    if bench in BENCHES:
        simulator, job = BENCHES[bench]
        return failure_of(job(), simulator, folder)[0]
    rng, generated = test_random_networks.named_build(bench, folder)
    _check_sources(generated.sources)
    try:
        test_random_networks.run_draws(rng, generated, test_random_networks.DRAWS)
    except AssertionError as error:
        return str(error) or "an assertion failed"
    return ""


def try_mutant(mutant: Mutant) -> Verdict:
    """Run a mutant against its benches until one fails."""
    start = time.perf_counter()
    killed_by, reason = "", "survived"
    try:
        with planted(mutant.template, mutant.old, mutant.new):
            for bench in mutant.benches:
                with TemporaryDirectory(prefix="sgq-hw-mutant-") as folder:
                    said = complaint_of(bench, Path(folder))
                if said:
                    killed_by, reason = bench, said
                    break
    except (LookupError, SourceError) as error:
        reason = f"no mutant: {error}"
    return Verdict(mutant, killed_by, reason, time.perf_counter() - start)


def try_bench(bench: str) -> str:
    """Run a bench on the templates without a fault; return what it complains of, or ""."""
    with TemporaryDirectory(prefix="sgq-hw-mutant-") as folder:
        return complaint_of(bench, Path(folder))


def run_all(mutants: Sequence[Mutant], jobs: int) -> tuple[list[Verdict], dict[str, str]]:
    """Run benches without faults, then all mutants; progress goes to stderr."""
    benches = sorted({bench for mutant in mutants for bench in mutant.benches})
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pristine = dict(zip(benches, pool.map(try_bench, benches), strict=True))
        for bench, said in pristine.items():
            print(f"{bench}: {said or 'passes without a fault'}", file=sys.stderr)
        futures = [pool.submit(try_mutant, mutant) for mutant in mutants]
        for number, future in enumerate(as_completed(futures), 1):
            verdict = future.result()
            word = "killed" if verdict.killed_by else "NOT KILLED"
            print(f"{number}/{len(mutants)} {word} {verdict.mutant.template}: "
                  f"{verdict.mutant.edit[:SHOWN]}", file=sys.stderr)  # fmt: skip
        verdicts = [future.result() for future in futures]
    return verdicts, pristine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the list, or a part of it."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--list", type=Path, default=LIST, help="another list of mutants")
    parser.add_argument("--only", nargs="*", default=[], help="templates")
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    options = parser.parse_args(arguments)
    mutants = [
        mutant for mutant in read_mutants(options.list)
        if not options.only or mutant.template in options.only
    ]  # fmt: skip
    verdicts, pristine = run_all(mutants, options.jobs)
    table = Table("template", "mutant", "killed by", "seconds")
    for verdict in verdicts:
        table.add_row(
            verdict.mutant.template, verdict.mutant.edit[:SHOWN],
            verdict.killed_by or f"NOT KILLED: {verdict.reason[:SHOWN]}", f"{verdict.seconds:.1f}",
        )  # fmt: skip
    console = Console(markup=False, highlight=False, width=140)
    console.print(table)
    broken = {bench: said for bench, said in pristine.items() if said}
    killed = sum(bool(verdict.killed_by) for verdict in verdicts)
    report = {
        "mutants": len(verdicts), "killed": killed, "broken_benches": broken,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for bench, said in broken.items():
        console.print(f"{bench} fails without a fault: {said}")
    for verdict in verdicts:
        if not verdict.killed_by:
            console.print(f"{verdict.mutant.template}: {verdict.reason}: {verdict.mutant.edit}")
    console.print(f"{killed} of {len(verdicts)} mutants killed")
    return 0 if verdicts and killed == len(verdicts) and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
