"""Which file holds which published detector: told by its keys; colour-robust, by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...detectors import ARCHITECTURES, read_checkpoint
from ...errors import UserError

BASELINE, ROBUST = "baseline", "CR"
ARCHS = ("resnet50", "efficientnet-b0")
ALIASES = {"efb0": "efficientnet-b0", **{name: name for name in ARCHS}}
SUFFIXES = (".pth", ".pt", ".safetensors")

Slot = tuple[str, str]  # architecture, training

# The study selects weights by a free tag, blur_jpg_prob{tag}.pth, and never names the CR one.
_ROBUST_NAME = re.compile(r"(?<![a-z])(prob)?(cr|colou?r|gr[ae]y)(?![a-z])")
_OTHER_RECIPE = "prob0.1"  # Blur+JPEG(0.1): published elsewhere, not the detector of the study


def find_weights(given: Sequence[str]) -> dict[Slot, Path]:
    """Return the file of each detector, (architecture, 'baseline' or 'CR').

    given: files, folders (searched at any depth; files of other networks and Blur+JPEG(0.1) are
        passed over), or ``resnet50=FILE`` and ``efb0:CR=FILE`` where names do not tell. A file is
        a CR detector if its name, or a folder between it and the one given, has the word CR,
        colour or grey.

    Raises:
        UserError: no such file, a file of another network, two files for one detector, or none.
    """
    found: dict[Slot, list[Path]] = {}
    for text in given:
        named = _named(text)
        if named is not None:
            slot, path = named
            if _architecture(path) != slot[0]:
                raise UserError(f"{path}: not weights of {slot[0]}")
            found[slot] = [path]  # a name settles it
            continue
        source = Path(text).expanduser()
        if not source.exists():
            raise UserError(f"{source}: no such weights file or folder")
        for path in _files(source):
            architecture = _architecture(path, strict=path == source)
            if architecture is None:
                continue
            name = path.name if path == source else path.relative_to(source).as_posix()
            slot = (architecture, ROBUST if _ROBUST_NAME.search(name.lower()) else BASELINE)
            known = found.setdefault(slot, [])
            if path not in known:
                known.append(path)
    for (architecture, training), paths in found.items():
        if len(paths) > 1:
            raise UserError(
                f"{' and '.join(str(path) for path in paths)} may both be {architecture}, "
                f"{training}; say --weights {architecture}:{training}=FILE alone"
            )
    if not found:
        raise UserError(f"{', '.join(given)}: no weights of {' or '.join(ARCHS)} in it")
    ordered = [(arch, training) for arch in ARCHS for training in (BASELINE, ROBUST)]
    return {slot: found[slot][0] for slot in ordered if slot in found}


def _named(text: str) -> tuple[Slot, Path] | None:
    """Return what ``arch[:training]=FILE`` says; None where the text is no such."""
    head, equals, path = text.partition("=")
    arch, _, training = head.partition(":")
    if not equals or arch.lower() not in ALIASES:
        return None
    kinds = {"": BASELINE, BASELINE: BASELINE, "cr": ROBUST}
    if training.lower() not in kinds:
        raise UserError(f"--weights {text}: training {training!r}; there are baseline and CR")
    return (ALIASES[arch.lower()], kinds[training.lower()]), Path(path).expanduser()


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    paths = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES]
    return [path for path in paths if path.is_file() and _OTHER_RECIPE not in path.name]


def _architecture(path: Path, *, strict: bool = True) -> str | None:
    """Return which of ARCHS the file's keys are of; None for another, or an error if strict."""
    try:
        state = read_checkpoint(path).state
    except UserError:
        if strict:
            raise
        return None
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    for name in ARCHS:
        if ARCHITECTURES[name].recognises(shapes):
            return name
    if strict:
        raise UserError(f"{path}: weights of neither {' nor '.join(ARCHS)}")
    return None
