"""The journal of a search: what it is and every finished trial, one JSON line each.

Lines are only ever appended, and each reaches the disk before the next trial counts, so a search
that is killed at any time goes on from its last finished trial.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from sgq_hw.errors import InputError
from sgq_hw.search.space import Dimension, Point
from sgq_hw.search.trial import Trial

FORMAT: Final = "sgq-hw-search"
VERSION: Final = 1


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides the outcome of each trial and the order of proposals.

    The number of trials is not part of it: more of them continue the same search.

    Attributes:
        float_hash: SHA-256 of the float network's file, which holds the graph.
        graph: The graph's name.
        model: The network's kind.
        space: The dimensions.
        method: `abs`, `random` or `exhaustive`.
        seed: Of the proposals.
        max_drop: Allowed loss of validation accuracy, points.
        epochs: Steps of fine-tuning.
        finetune_seed: Of fine-tuning.
        tuning: All options of fine-tuning: other defaults are another search.
    """

    format: str = FORMAT
    version: int = VERSION
    float_hash: str
    graph: str
    model: str
    space: tuple[Dimension, ...]
    method: str
    seed: int
    max_drop: float
    epochs: int
    finetune_seed: int
    tuning: str


class Journal:
    """An open, locked journal; see `open_journal`.

    Attributes:
        path: The file.
        trials: Finished trials by id.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.trials: dict[int, Trial] = {}
        self._stream = stream

    def begin(self, header: Header) -> None:
        """Write the header of a new journal, or check that of an old one and read its trials.

        A last line without its end is what a kill during a write leaves: it is cut off.

        Raises:
            InputError: another search's journal, or a damaged one; names file and line.
        """
        self._stream.seek(0)
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._stream.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._write(msgspec.json.encode(header))
            return
        self._check_header(lines[0], header)
        for number, line in enumerate(lines[1:], start=2):
            try:
                trial = msgspec.json.decode(line, type=Trial)
            except msgspec.DecodeError as error:
                raise InputError(f"{self.path}: line {number}: {error}") from error
            if trial.id in self.trials:
                raise InputError(f"{self.path}: line {number}: trial {trial.id} repeats")
            self.trials[trial.id] = trial

    def _check_header(self, line: bytes, wanted: Header) -> None:
        try:
            found = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise InputError(f"{self.path}: line 1: {error}") from error
        fields = msgspec.json.decode(msgspec.json.encode(wanted))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{self.path}: line 1: not the journal of a search")
        # The first difference in the order of the fields: format and version come first.
        for name, value in fields.items():
            if found.get(name) != value:
                long = name in ("space", "float_hash")
                what = "" if long else f" ({found.get(name)}, now {value})"
                raise InputError(
                    f"{self.path}: belongs to another search: {name} differs{what}; "
                    "use another folder"
                )

    def recorded(self, trial_id: int, point: Point) -> bool:
        """Whether a proposed trial has been measured before.

        Raises:
            InputError: it was, at another point: another program made that journal.
        """
        known = self.trials.get(trial_id)
        if known is not None and known.point != point:
            raise InputError(
                f"{self.path}: trial {trial_id}: its point is not the one that is proposed now; "
                "another version of this program or of scikit-learn wrote it"
            )
        return known is not None

    def append(self, trial: Trial) -> None:
        """Record a finished trial; on return it is on disk."""
        if trial.id in self.trials:
            raise ValueError(f"trial {trial.id} was recorded before")
        self._write(msgspec.json.encode(trial))
        self.trials[trial.id] = trial

    def _write(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open a journal, new or old, for this process alone.

    Raises:
        InputError: the file cannot be written, or another process has it open.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from error
    with stream:
        try:
            # The kernel drops the lock with the process, however it ends.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another search is running in this folder") from None
        try:
            yield Journal(path, stream)
        finally:
            # A search that was refused before its first line leaves no journal.
            if os.fstat(stream.fileno()).st_size == 0:
                path.unlink()
