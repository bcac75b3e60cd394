"""What a training is told: frozen dataclasses whose fields say what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import UserError

Given = TypeVar("Given")


def setting(
    default: Any, said: str, *, least: float | None = None, among: Sequence[Any] = ()
) -> Any:
    """Return a field with its default, what it means, its smallest value and its choices."""
    return field(default=default, metadata={"said": said, "least": least, "among": tuple(among)})


@dataclass(frozen=True)
class Checked:
    """Settings of any kind, refused where a value is none of its choices or too small.

    Raises:
        UserError: the message names the field and what it may be.
    """

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            least, among = one.metadata.get("least"), one.metadata.get("among")
            if among and value not in among:
                raise UserError(f"{one.name} {value!r}: choose {', '.join(map(str, among))}")
            if least is not None and value < least:
                raise UserError(f"{one.name} {value}: must be at least {least:g}")


@dataclass(frozen=True)
class Settings(Checked):
    """What every training of a detector is told."""

    start: str = setting(
        "default",
        "Where to start: default, PyTorch's initialisation; high-pass, one that ignores smooth "
        "content and starts shallow, for training without ImageNet weights; or a weights file.",
    )
    seed: int = setting(0, "Of everything random.")
    preset: str = setting("", "Preprocessing that goes with the weights, kept in their header.")
    batch_size: int = setting(32, "Images a step.", least=1)
    learning_rate: float = setting(1e-4, "Learning rate of Adam.", least=0)
    epochs: int = setting(50, "End after so many epochs.", least=1)
    max_steps: int = setting(0, "End after so many steps; 0: after the epochs.", least=0)
    epoch_steps: int = setting(
        0, "Steps between two validations, that patience counts; 0: all data.", least=0
    )
    crop_size: int = setting(0, "Side of a crop in pixels.", least=0)


def changed(settings: Given, given: Mapping[str, Any]) -> Given:
    """Return settings with the values that are given by name; None keeps the settings' own."""
    new = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(settings, **new)  # type: ignore[type-var]
