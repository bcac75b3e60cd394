"""Train a generator and write all that belongs to it: weights, history, critic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors
import torch

from ..errors import UserError
from ..files import provenance, write_csv
from .generators import load_generator, save_critic, save_generator
from .train import ForgeTraining, train_generator


def train_and_save(
    stem: str,
    family: str,
    settings: ForgeTraining,
    photographs: Sequence[Path],
    held_out: Sequence[Path],
    folder: Path,
    *,
    start: Path | None = None,
    encoder_only: bool = False,
    bits: int = 8,
    critic: bool = False,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, str]:
    """Write ``<stem>.safetensors`` and ``<stem>-history.csv``, and return the weights' facts.

    A run that was interrupted goes on from ``<stem>-checkpoint.pth``, which is deleted at the end.

    Args:
        start: weights of the family to go on from; encoder_only: from their encoder alone.
        critic: write ``<stem>-critic.safetensors`` too.
        photographs, held_out, settings, device, progress: see ``train_generator``.

    Raises:
        UserError: a critic is asked for and there is none, or see ``train_generator``.
    """
    if critic and settings.loss == "none":
        raise UserError(f"{stem} is trained without a critic: there is none to save")
    checkpoint = folder / f"{stem}-checkpoint.pth"
    trained = train_generator(
        family, photographs, held_out, settings,
        device=device,
        start=load_generator(start, family) if start else None,
        encoder_only=encoder_only,
        checkpoint=checkpoint,
        progress=progress,
    )  # fmt: skip
    last = trained.history.iloc[-1]
    before = facts_of(start) if start else {}
    facts = {
        "family": family,
        "member": str(settings.member),
        "seed": str(settings.seed),
        "steps": str(settings.steps),
        "batch_size": str(settings.batch_size),
        "learning_rate": f"{settings.learning_rate:g}",
        "loss": settings.loss,
        "adversarial": f"{settings.adversarial:g}",
        **provenance(before, float(last["seconds"])),
        "psnr": f"{last['psnr']:.2f}",
        "result": f"PSNR {last['psnr']:.1f} dB on held-out photographs",
    }
    save_generator(folder / f"{stem}.safetensors", trained.generator, facts, bits=bits)
    if critic and trained.critic is None:
        raise UserError(f"{family} is no adversarial network: there is no critic to save")
    if critic and trained.critic is not None:
        save_critic(folder / f"{stem}-critic.safetensors", trained.critic, facts)
    write_csv(folder / f"{stem}-history.csv", trained.history)
    checkpoint.unlink(missing_ok=True)
    return facts


def facts_of(path: Path) -> dict[str, str]:
    """Return the facts that a generator was written with.

    Raises:
        UserError: it is no safetensors file.
    """
    try:
        with safetensors.safe_open(path, "pt") as opened:
            return dict(opened.metadata() or {})
    except Exception as error:
        raise UserError(f"{path}: not weights of a generator: {error}") from error
