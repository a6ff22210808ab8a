"""Throughput: what the slots of an array do in an inference, and which array does most."""

from dataclasses import dataclass
from typing import Any

from sgq_hw.bundle import Bundle
from sgq_hw.cycles import inference_cycles, pass_times
from sgq_hw.design import MAX_LANES, Design
from sgq_hw.errors import InputError
from sgq_hw.generate import design_for
from sgq_hw.golden.network import run, score_macs, useful_macs
from sgq_hw.schedule import PES_CHOICES

DEFAULT_CLOCK_MHZ = 100.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Slots of one inference in the steady state, from schedule and passes alone.

    Attributes:
        design: The array.
        cycles: Interval of back-to-back inferences.
        pass_cycles: Cycles of each pass, by name.
        useful_macs: Products of non-zero integers with unpadded columns.
        score_macs: Those of them that have multipliers of their own: AGNN's scores.
        lost_slots: Other slots by cause; with the useful ones that fill slots they are
            `pes * lanes * cycles`.
    """

    design: Design
    cycles: int
    pass_cycles: dict[str, int]
    useful_macs: int
    score_macs: int
    lost_slots: dict[str, int]

    @property
    def slots(self) -> int:
        """Multiply-accumulate slots of the interval."""
        return self.design.pes * self.design.lanes * self.cycles

    @property
    def utilisation(self) -> float:
        """Share of useful slots."""
        return (self.useful_macs - self.score_macs) / self.slots

    def per_second(self, clock_mhz: float = DEFAULT_CLOCK_MHZ) -> float:
        """Return inferences per second at a clock."""
        return clock_mhz * 1e6 / self.cycles

    def as_json(self) -> dict[str, Any]:
        """Return the keys of `budget`."""
        return {
            "pes": self.design.pes,
            "lanes": self.design.lanes,
            "stream_bits": self.design.stream_bits,
            "cycles": self.cycles,
            "pass_cycles": self.pass_cycles,
            "useful_macs": self.useful_macs,
            "score_macs": self.score_macs,
            "mac_slots": self.slots,
            "utilisation": self.utilisation,
            "lost_slots": self.lost_slots,
            "memory_bits": sum(memory.bits for memory in self.design.memories),
        }


def count_useful(bundle: Bundle) -> int:
    """Return the useful multiply-accumulates of one inference of a bundle."""
    trace = run(bundle.network, bundle.workload)
    return sum(useful_macs(bundle.network, bundle.workload, trace).values())


def predict(design: Design, bundle: Bundle, useful: int | None = None) -> Throughput:
    """Predict an inference without simulating it.

    Args:
        design: The accelerator.
        bundle: Network and graph.
        useful: Useful multiply-accumulates, counted here if they are not given.
    """
    useful = count_useful(bundle) if useful is None else useful
    times = pass_times(design, bundle.workload)
    cycles = inference_cycles(design, bundle.workload)
    lanes, slots = design.lanes, design.pes * design.lanes
    busy = sum(
        time.macs * design.walk_channels(step)
        for time, step in zip(times, design.walks, strict=True)
    )
    beside = score_macs(bundle.network, bundle.workload)
    waits = sum(time.output_wait for time in times) + cycles - sum(time.cycles for time in times)
    lost = {
        "bank_conflict": sum(time.conflicts * time.chunks for time in times) * lanes,
        "row_imbalance": sum(time.idle * time.chunks for time in times) * lanes,
        "lane_padding": sum(time.macs * time.chunks for time in times) * lanes - busy,
        "fill_drain": sum(time.overhead for time in times) * slots,
        "input_stall": sum(time.input_wait for time in times) * slots,
        "output_stall": waits * slots,
        "computed_zeros": busy + beside - useful,
    }
    by_name = {step.name: time.cycles for step, time in zip(design.walks, times, strict=True)}
    return Throughput(design, cycles, by_name, useful, beside, lost)


def arrays_of(bundle: Bundle, slots: int, **options: Any) -> list[Throughput]:
    """Return every array of so many slots, the fastest first; of equals, that of least memory.

    Args:
        bundle: Network and graph.
        slots: Processing elements times lanes.
        options: Of `sgq_hw.generate.design_for`.

    Raises:
        InputError: no array has so many slots.
    """
    shapes = [
        (pes, slots // pes)
        for pes in PES_CHOICES
        if slots % pes == 0 and 1 <= slots // pes <= MAX_LANES
    ]
    if not shapes:
        raise InputError(
            f"--fit: {slots} is no product of {', '.join(map(str, PES_CHOICES))} and 1 to "
            f"{MAX_LANES} lanes"
        )
    useful = count_useful(bundle)
    found = [
        predict(design_for(bundle, pes=pes, lanes=lanes, **options), bundle, useful)
        for pes, lanes in shapes
    ]
    return sorted(found, key=lambda one: (one.cycles, one.as_json()["memory_bits"]))
