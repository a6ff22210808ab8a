"""An exact, in-order comparer of what a unit delivers with what its model says."""

from collections import deque
from collections.abc import Hashable


class Scoreboard:
    """Compares two sequences that may arrive at different times.

    The model's words come through `expect`, the unit's through `observe`, each in its own order and
    either of them first. The first difference fails the test. `finish` belongs at the end of every
    test: until then words that never came are unknown.

    Attributes:
        compared: Words found equal.
    """

    def __init__(self, name: str = "scoreboard") -> None:
        """Start empty; `name` appears in the messages."""
        self.name = name
        self.compared = 0
        self._expected: deque[tuple[Hashable, str]] = deque()
        self._observed: deque[Hashable] = deque()

    def expect(self, word: Hashable, note: str = "") -> None:
        """Add a word of the model; `note` tells what it came from (an input, a node)."""
        self._expected.append((word, note))
        self._compare()

    def observe(self, word: Hashable) -> None:
        """Add a word of the unit."""
        self._observed.append(word)
        self._compare()

    def finish(self, minimum: int = 1) -> None:
        """Fail unless every word of both sides met its equal.

        Args:
            minimum: Words that must have been compared; a test without any proves nothing.
        """
        for side, words in (("expected", self._expected), ("unexpected", self._observed)):
            assert not words, (
                f"{self.name}: after {self.compared} equal words {len(words)} {side} ones are "
                f"left, the first is {words[0]}"
            )
        assert self.compared >= minimum, (
            f"{self.name}: {self.compared} words were compared, at least {minimum} should be"
        )

    def clear(self) -> None:
        """Forget everything, as the unit does when it is reset."""
        self.compared = 0
        self._expected.clear()
        self._observed.clear()

    def _compare(self) -> None:
        while self._expected and self._observed:
            (expected, note), got = self._expected.popleft(), self._observed.popleft()
            assert expected == got, (
                f"{self.name}: word {self.compared}{f' ({note})' if note else ''}: "
                f"expected {expected}, got {got}"
            )
            self.compared += 1
