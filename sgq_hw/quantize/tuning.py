"""Options of fine-tuning; free of PyTorch, so that bad ones are refused at once."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sgq_hw.errors import InputError

Clipping = Literal["tracked", "learned"]
CLIPPINGS: tuple[Clipping, ...] = get_args(Clipping)


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How to tune a quantised network.

    Attributes:
        epochs: Full-graph steps.
        dropout: On inputs and hidden features; None takes that of the float training.
        calibrate_every: Scales follow the weights every so many epochs, until they settle.
        settling_epochs: After so many epochs (at most a quarter of all) scales stay.
        lr_factor: Learning rate over that of the float training. Of 1, 0.3 and 0.1, this had the
            highest validation accuracy over three seeds of Cora, Citeseer and DBLP at 4 bits.
        protect: Degree-Quant (Tailor et al. 2021, section 3.1): probabilities that the nodes of the
            lowest and of the highest in-degree stay unrounded in a training pass; None: no node.
        distill: Weight of the cross-entropy against the float network's outputs on all nodes,
            beside that of the labels; 0: none. Validation accuracy at 4 bits (Cora GCN and GIN,
            Citeseer GCN and AGNN) is 0.6 to 2 points higher with 1 to 5 than with 0.
        clipping: How scales go on after `settling_epochs`: `tracked` ones stay, `learned` ones are
            trained by gradients of their own (`sgq_hw.quantize.rounding`).
    """

    epochs: int = 150
    dropout: float | None = None
    calibrate_every: int = 5
    settling_epochs: int = 20
    lr_factor: float = 0.3
    protect: tuple[float, float] | None = None
    distill: float = 3.0
    clipping: Clipping = "tracked"

    def __post_init__(self) -> None:
        """Refuse options out of range.

        Raises:
            InputError: naming the option.
        """
        if self.epochs < 1:
            raise InputError(f"--epochs: {self.epochs} is less than 1")
        if not 0 <= self.distill < math.inf:
            raise InputError(f"--distill: {self.distill} is not a finite number, 0 or more")
        if self.clipping not in CLIPPINGS:
            raise InputError(f"--clipping: {self.clipping} is not one of {', '.join(CLIPPINGS)}")
        if self.protect is not None and not 0 <= self.protect[0] <= self.protect[1] <= 1:
            raise InputError(f"--protect: {self.protect} do not ascend from 0 to 1")
