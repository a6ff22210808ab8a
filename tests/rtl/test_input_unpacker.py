"""The input unpacker: words in beats and beats in words, broken payloads, every pace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.design import Design
from sgq_hw.host import pack_words
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "input_unpacker"
DESIGNS: dict[str, dict[str, Any]] = {
    "binary": {"inputs": "binary", "features": 19, "stream_bits": 64},
    "one-a-beat": {"inputs": "multi-bit", "features": 9, "input_bits": 16, "stream_bits": 32},
    "dense-one-channel": {"inputs": "signed", "features": 1, "input_bits": 12,
                          "sparse_input": False, "stream_bits": 32},
    "pes2": {"pes": 2, "inputs": "binary", "features": 19, "stream_bits": 64},
    "pes2-exact": {"pes": 2, "inputs": "signed", "input_bits": 16, "features": 1,
                   "sparse_input": False, "stream_bits": 32},
    "pes2-two-beats": {"pes": 2, "inputs": "multi-bit", "features": 9, "input_bits": 16,
                       "stream_bits": 32},
    "pes8-exact-beats": {"pes": 8, "inputs": "signed", "features": 5, "input_bits": 8,
                         "sparse_input": False, "stream_bits": 32},
    "pes8-long": {"pes": 8, "inputs": "signed", "features": 40, "input_bits": 11,
                  "stream_bits": 32},
    "pes8-wide": {"pes": 8, "inputs": "signed", "features": 40, "input_bits": 11,
                  "stream_bits": 1024},
}  # fmt: skip
SHAPES = {
    "binary": (9, 1), "one-a-beat": (1, 1), "dense-one-channel": (2, 1), "pes2": (4, 1),
    "pes2-exact": (1, 1), "pes2-two-beats": (1, 2), "pes8-exact-beats": (1, 2),
    "pes8-long": (1, 5), "pes8-wide": (6, 1),
}  # fmt: skip
"""Words in a beat and beats in a word."""


def payload(design: Design, rng: np.random.Generator, count: int) -> tuple[list[str], Any]:
    """Return random words and their beats; bits that no word needs are random too."""
    width, bits = design.input_word_bits, design.stream_bits
    codes = rng.integers(1 << design.input_record.bits, size=(count, design.pes))
    words = [
        int.from_bytes(bytes(word), "little")
        for word in pack_words(codes, design.input_record.bits)
    ]
    beats = []
    for start in range(0, count, design.words_per_beat):
        group = words[start : start + design.words_per_beat]
        size = design.beats_per_word * bits
        data = int.from_bytes(rng.bytes(size // 8), "little") >> len(group) * width
        for word in reversed(group):
            data = data << width | word
        for _ in range(design.beats_per_word):
            beats.append([f"{data & (1 << bits) - 1:x}", 0])
            data >>= bits
    beats[-1][1] = 1
    return [f"{word:x}" for word in words], beats


def job(name: str, draws: int = 12) -> UnitRun:
    options = {"layers": 1, "nodes": 4, "lanes": 4} | DESIGNS[name]
    design = random_design(len(name), **options)
    assert (design.words_per_beat, design.beats_per_word) == SHAPES[name]
    rng = np.random.default_rng(len(name))
    several = design.words_per_beat
    counts = {1, 2, 5, several, several + 1, 2 * several}
    payloads = [payload(design, rng, count) for count in sorted(counts)]
    return unit_run(UNIT, design, {"payloads": payloads, "draws": draws})


@pytest.mark.parametrize("name", list(DESIGNS))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["dense-one-channel", "pes8-long"])
def test_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pes2", "finish && !last_reg", "finish && last_reg"),
        ("pes2", "word_reg >> WORD_BITS", "word_reg >> (WORD_BITS - 1)"),
        ("pes2", "place_reg <= 2'd0", "place_reg <= place_reg"),
        ("pes2", "left_reg == 32'd2", "left_reg == 32'd3"),
        ("pes2", "num_words == 32'd1", "1'b0"),
        ("pes2", "used && !last_reg && !final_reg", "used && !final_reg"),
        ("pes2", "used && !last_reg && !final_reg", "used && !last_reg"),
        ("pes2", "used && last_reg && !finish", "take && last_reg && !finish"),
        ("pes8-long", "gather_reg[127:STREAM_BITS]", "gather_reg[127-STREAM_BITS:0]"),
        ("pes8-long", "run_reg && !broken_reg", "run_reg"),
        ("pes8-long", "(last_reg || final_reg)", "final_reg"),
        ("pes8-long", "(last_reg || final_reg)", "last_reg"),
        ("pes8-long", "!valid_reg || take)", "!valid_reg)"),
        ("pes8-long", "!last_beat || !valid_reg || take", "!valid_reg || take"),
        ("pes8-long", "broken_reg && !valid_reg", "broken_reg"),
        ("pes8-long", "beat_reg  <= 3'd0", "beat_reg  <= beat_reg"),
        ("pes8-long", "broken_reg <= 1'b0", "broken_reg <= broken_reg"),
    ],
)
def test_a_planted_fault_is_found(name: str, old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(name, 4), old, new), tmp_path)
