"""Wang et al.'s rule for the learning rate and the end of a training, as a small state machine."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 5
FIRST_MARGIN, LATER_MARGIN = 0.001, 0.002
SMALLEST_RATE = 1e-6


@dataclass
class Plateau:
    """Watches the validation accuracy (a fraction) once an epoch.

    An epoch counts as progress if it beats the best so far by the margin; after 5 epochs without
    progress the learning rate is divided by 10 and the watch starts anew with the larger margin;
    the training ends when the rate would fall below 1e-6.
    """

    learning_rate: float
    best: float | None = None
    waited: int = 0
    margin: float = FIRST_MARGIN
    ended: bool = False

    def update(self, accuracy: float) -> None:
        """Take in one epoch's accuracy; ``learning_rate`` and ``ended`` then say what follows."""
        if self.best is None or accuracy >= self.best + self.margin:
            self.best, self.waited = accuracy, 0
            return
        self.waited += 1
        if self.waited < PATIENCE:
            return
        rate = self.learning_rate / 10
        if rate < SMALLEST_RATE:
            self.ended = True
            return
        self.learning_rate = rate
        self.best, self.waited, self.margin = None, 0, LATER_MARGIN
