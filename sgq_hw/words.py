"""Memory words of any width as arrays of bytes, and their hexadecimal images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError
from sgq_hw.files import write_text
from sgq_hw.host import Words

IntArray = npt.NDArray[np.int64]


def join_words(parts: Sequence[tuple[IntArray, int]]) -> Words:
    """Pack several code matrices of equal height side by side, the first lowest."""
    bits = []
    for codes, width in parts:
        shifts = np.arange(width, dtype=np.int64)
        bits.append(((codes[:, :, None] >> shifts) & 1).astype(np.uint8).reshape(len(codes), -1))
    return np.packbits(np.concatenate(bits, axis=1), axis=1, bitorder="little")


def hex_lines(words: Words, bits: int, prefixes: Sequence[str] | None = None) -> list[str]:
    """Return one line of hexadecimal digits a word, most significant digit first."""
    digits = -(-bits // 4)
    size = words.shape[1] * 2
    text = np.ascontiguousarray(words[:, ::-1]).tobytes().hex()
    lines = [text[at + size - digits : at + size] for at in range(0, len(text), size)]
    if prefixes is None:
        return lines
    return [prefix + line for prefix, line in zip(prefixes, lines, strict=True)]


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write an image, one word a line."""
    write_text(path, "\n".join(lines) + "\n" if lines else "")


def read_lines(path: Path) -> list[str]:
    """Read an image as text; the words are compared, not interpreted.

    Raises:
        InputError: the file is missing or is not text.
    """
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read memory image") from error
