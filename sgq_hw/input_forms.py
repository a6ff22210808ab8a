"""Inputs on chip: records of what is stored, or complete rows, whichever needs less memory."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from sgq_hw.bundle import Bundle
from sgq_hw.cost.memory_mapper import map_memory
from sgq_hw.cycles import inference_cycles
from sgq_hw.design import Design, make_design
from sgq_hw.errors import InputError
from sgq_hw.mapping import map_for
from sgq_hw.slices import DEFAULT_FAMILY

BLOCK_NAME = "RAMB36"
"""What people call the block RAM of the family that decides."""


@dataclass(frozen=True, slots=True)
class InputForm:
    """One form of the inputs on chip.

    Attributes:
        design: The accelerator that takes it.
        bits: Of the input memory.
        blocks: Its block RAM on AMD 7-series.
        cycles: Of an inference; complete rows cost a step for every channel.
    """

    design: Design
    bits: int
    blocks: Fraction
    cycles: int

    @property
    def name(self) -> str:
        """As the option `--input` calls it."""
        return "sparse" if self.design.sparse_input else "dense"

    @property
    def text(self) -> str:
        """For people."""
        return (
            f"{self.name} {self.bits:,} bits, {float(self.blocks):g} {BLOCK_NAME}, "
            f"{self.cycles:,} cycles"
        )


@dataclass(frozen=True, slots=True)
class InputChoice:
    """Both forms of the inputs of a design.

    Attributes:
        taken: The form that the design has.
        other: The other one; None where it cannot be built.
    """

    taken: InputForm
    other: InputForm | None

    @property
    def best(self) -> InputForm:
        """The form of less block RAM, then of fewer bits, then of fewer cycles."""
        forms = [form for form in (self.taken, self.other) if form is not None]
        return min(forms, key=lambda form: (form.blocks, form.bits, form.cycles))

    @property
    def reason(self) -> str:
        """Why this form, in a few words."""
        taken, other = self.taken, self.other
        if other is None:
            return "the other form cannot be built"
        if self.best is other:
            return "as asked for"
        if taken.blocks < other.blocks:
            return f"fewer {BLOCK_NAME} of AMD 7-series"
        return "fewer bits" if taken.bits < other.bits else "fewer cycles"

    @property
    def text(self) -> str:
        """One line for people."""
        forms = [form.text for form in (self.taken, self.other) if form is not None]
        return f"inputs on chip: {self.taken.name}, {self.reason}: {'; '.join(forms)}"

    def as_json(self) -> dict[str, Any]:
        """Return the keys that other tools rely on."""
        forms = {
            form.name: {"bits": form.bits, "blocks": float(form.blocks), "cycles": form.cycles}
            for form in (self.taken, self.other)
            if form is not None
        }
        return {"form": self.taken.name, "reason": self.reason, "forms": forms}


def _form(design: Design, bundle: Bundle) -> InputForm:
    memory = design.memory("input_memory")
    mapped = map_memory(
        memory.width, memory.depth, DEFAULT_FAMILY, rom=memory.rom, style=memory.style
    )
    return InputForm(
        design, memory.bits, mapped.blocks, inference_cycles(design, bundle.workload)
    )


def _other_design(design: Design, bundle: Bundle) -> Design:
    """Return the same accelerator with inputs in the other form."""
    workload, capacity = bundle.workload, design.capacity
    if not design.sparse_input:
        # Complete rows are sized for every input; records for those that the bundle has.
        capacity = replace(
            capacity,
            row_nonzeros=max(1, int(np.diff(workload.x_indptr).max(initial=0))),
            input_words=map_for(design, workload).inputs.steps,
        )
    return make_design(
        design.manifest,
        pes=design.pes,
        lanes=design.lanes,
        stream_bits=design.stream_bits,
        sparse_input=not design.sparse_input,
        rom=design.rom,
        streamed=design.streamed,
        inputs_on_chip=True,
        capacity=capacity,
    )


def compare_inputs(design: Design, bundle: Bundle) -> InputChoice:
    """Compare the form that a design with inputs on chip has with the other one."""
    try:
        other = _form(_other_design(design, bundle), bundle)
    except InputError:
        other = None
    return InputChoice(_form(design, bundle), other)
