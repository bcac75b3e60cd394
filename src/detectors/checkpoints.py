"""Reading and writing weights: every published wrapper, strictly, without running pickled code."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch

from ..eight_bits import SCALE, State, deflated, inflated, packed, unpacked
from ..errors import UserError
from ..files import home, sha256, write_with
from .torchscript import read_torchscript

# Rounded to 8 bits, a first convolution's high-pass filters no longer sum to zero, and brightness
# drowns the traces; small tensors cost little anyway.
FEW = 2**14
SHOWN = 5  # keys listed in an error before the rest is counted

# Where training programs put the state dict; averaged weights first, as timm reads them.
HOLDERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema",
    "state_dict", "model_state_dict", "model", "net", "network", "weights", "params",
)  # fmt: skip
PREFIXES = ("module.", "model.", "net.", "network.")  # of a network inside another one
# What torch.compile and others put into names, wherever it stands.
WITHIN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_TRAINING = re.compile(r"^(\w*_)?(loss|losses|loss_fn|criterion|metrics?|acc|accuracy|auroc)\w*\.")
_UNKNOWN = re.compile(r"GLOBAL (\S+) was not an allowed global")
# Files that are something else, by how they begin, and what is to be done about it.
_OTHER = {
    b"version https://git-lfs": "a Git-LFS pointer, not the weights; `git lfs pull` gets them",
    b"\x1f\x8b": "packed with gzip; unpack it",
    b"BZh": "packed with bzip2; unpack it",
    b"\xfd7zXZ": "packed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstandard; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x89HDF": "an HDF5 file (Keras); weights of PyTorch are needed",
    b"GGUF": "a GGUF file; weights of PyTorch are needed",
    b"\x93NUMPY": "a NumPy array; save the state_dict() with torch.save",
}


class Checkpoint(NamedTuple):
    """What a weights file holds.

    state: the tensors by the network's own names; wrapper: how the file held them; facts: the
    header's entries (safetensors).
    """

    state: State
    wrapper: str
    facts: dict[str, str]


class _Beside:
    """Stands for whatever else a file holds: it takes anything and does nothing."""

    def __new__(cls, *given: object, **options: object) -> _Beside:
        return super().__new__(cls)

    def __init__(self, *given: object, **options: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the state dict of a weights file, the wrapper it came in and its header's facts.

    The content decides what a file is, not its name. Known are safetensors (plain, half precision,
    8-bit, deflated, or what differs from another file, which must lie beside it or be shipped), a
    TorchScript archive, a bare state dict, and a dict with one under a name of ``HOLDERS`` or as
    its only one; averaged weights are taken before the others, as timm does. What such files hold
    beside the weights is never made: no class or function of a file is looked up or run. What wraps
    a network (DataParallel, ``torch.compile``, Lightning, AveragedModel) is taken off the names.

    Raises:
        UserError: no such file, not a weights file, or one that would need to run pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    with path.open("rb") as opened:
        start = opened.read(4096)
    if _is_safetensors(start):
        state, wrapper, facts = _read_safetensors(path)
    else:
        _refuse_other(path, start)
        facts = {}
        if start.startswith(b"PK") and _is_torchscript(path):
            state, wrapper = read_torchscript(path), "TorchScript"
        else:
            content, beside = _unpickled(path)
            state, wrapper = _state_in(content, path, beside)
    state, prefixes = _plain(state)
    return Checkpoint(state, ", ".join([wrapper, *prefixes]), facts)


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**40


def _refuse_other(path: Path, start: bytes) -> None:
    """Say in one line what a file is that is neither safetensors nor of ``torch.save``."""
    for begins, what in _OTHER.items():
        if start.startswith(begins):
            raise UserError(f"{path}: is {what}")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text:
        size = path.stat().st_size
        raise UserError(f"{path}: is empty ({size} bytes); copy or download it again")
    if not start.rstrip(b"\0"):
        raise UserError(f"{path}: holds zeros only; copy or download it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--", b"<script")):
        found = re.search(rb"<title[^>]*>([^<]*)", start, re.IGNORECASE)
        title = f" ({found[1].decode(errors='replace').strip()!r})" if found else ""
        raise UserError(
            f"{path}: is a saved web page{title}, not the weights; download the file itself"
        )
    if not start.startswith((b"\x80", b"PK")) and _is_text(start):
        what = "an index of weights in several files" if b"weight_map" in start else "text"
        raise UserError(f"{path}: is {what}, not the weights themselves; give the weights file")
    if start.startswith(b"PK"):
        _refuse_archive(path)


def _is_text(start: bytes) -> bool:
    return not any(byte < 9 or 13 < byte < 32 or byte == 127 for byte in start)


def _refuse_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise UserError(f"{path}: is cut off or damaged; copy or download it again") from None
    if not any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{path}: is a ZIP archive ({names[0] if names else 'empty'} …); unpack it")


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _unpickled(path: Path) -> tuple[Any, list[str]]:
    """Return what ``torch.save`` wrote, and the names that stand-ins were put in place of."""
    beside: dict[str, type] = {}
    for _ in range(100):
        allowed: list[Any] = [(kind, name) for name, kind in beside.items()]
        try:
            with torch.serialization.safe_globals(allowed), path.open("rb") as opened:
                content = torch.load(opened, map_location="cpu", weights_only=True)
                return content, list(beside)
        except pickle.UnpicklingError as error:
            said = " ".join(str(error).split())
            found = _UNKNOWN.search(said)
            name = "" if found is None else found[1]
            if name and "." not in name:
                name = f"builtins.{name}"
            if name and name not in beside:
                beside[name] = type(name, (_Beside,), {})
                continue
            # One that is filled like a dict is a kind of dict.
            filled = [
                one for one, kind in beside.items() if "SETITEM" in said and str(kind) in said
            ]
            if filled:
                beside[filled[0]] = OrderedDict
                continue
            raise UserError(_needs_code(path, list(beside), said)) from error
        except Exception as error:
            said = " ".join(str(error).split())[:150] or type(error).__name__
            raise UserError(
                f"{path}: not a PyTorch weights file, or cut off: {said}; copy or download it again"
            ) from error
    raise UserError(_needs_code(path, list(beside), "too many classes"))


def _needs_code(path: Path, beside: list[str], said: str) -> str:
    what = ", ".join(beside[:SHOWN]) or said.split(" In PyTorch 2.6")[0][:150]
    return (
        f"{path}: holds more than weights and would have to run code to load ({what}); save its "
        "weights alone: torch.save(model.state_dict(), 'weights.pth')"
    )


def _state_in(content: Any, path: Path, beside: list[str]) -> tuple[State, str]:
    """Return the state dict that a file's content is or holds, and under which names."""
    names: list[str] = []
    while isinstance(content, Mapping):
        held = {
            str(key): value
            for key, value in content.items()
            if isinstance(value, Mapping) and _holds_tensors(value)
        }
        chosen = next((name for name in HOLDERS if name in held), "")
        if not chosen and not any(isinstance(value, torch.Tensor) for value in content.values()):
            if len(held) > 1:
                raise UserError(
                    f"{path}: holds several networks ({', '.join(held)}); save the state dict of "
                    "the one that is meant in a file of its own"
                )
            chosen = next(iter(held), "")
        if not chosen:
            break
        names.append(chosen)
        content = held[chosen]
    if isinstance(content, Mapping):
        state = {str(k): value for k, value in content.items() if isinstance(value, torch.Tensor)}
        lost = [str(k) for k, value in content.items() if isinstance(value, _Beside)]
        if state and not (lost and any("." in key for key in lost)):
            return state, ".".join(names) or "bare"
    if beside:
        raise UserError(_needs_code(path, beside, ""))
    what = type(content).__name__
    if isinstance(content, Mapping):
        what = f"a dict with {', '.join(map(repr, [*content][:SHOWN])) or 'nothing'}"
    raise UserError(
        f"{path}: no state dict in it, but {what}; save torch.save(model.state_dict(), FILE)"
    )


def _holds_tensors(value: Mapping[Any, Any], depth: int = 2) -> bool:
    """Whether a dict is a state dict, or has one inside, and not an optimiser's state."""
    if "param_groups" in value:
        return False
    if any(isinstance(one, torch.Tensor) and isinstance(key, str) for key, one in value.items()):
        return True
    inside = [one for one in value.values() if isinstance(one, Mapping)]
    return depth > 0 and any(_holds_tensors(one, depth - 1) for one in inside)


def _plain(state: State) -> tuple[State, list[str]]:
    """Return a state dict by the network's own names, and what was taken off them."""
    for name in ("n_averaged", "module.n_averaged"):  # of torch's AveragedModel
        if name in state and state[name].numel() == 1:
            state = {key: value for key, value in state.items() if key != name}
    parts = {key: key.split(".") for key in state}
    taken = [f"{name}." for name in WITHIN if any(name in own for own in parts.values())]
    if taken:
        kept = {key: [part for part in own if part not in WITHIN] for key, own in parts.items()}
        state = {".".join(kept[key]): value for key, value in state.items()}
    while prefix := _prefix(state):
        state = {
            key.removeprefix(prefix): one for key, one in state.items() if key.startswith(prefix)
        }
        taken.append(prefix)
    return state, taken


def _prefix(keys: Iterable[str]) -> str:
    """Return what stands before every name but those of losses and metrics; '' for nothing."""
    own = [key for key in keys if not _TRAINING.match(key)]
    return next((one for one in PREFIXES if own and all(key.startswith(one) for key in own)), "")


def _read_safetensors(path: Path) -> tuple[State, str, dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as opened:
            facts = dict(opened.metadata() or {})
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        state = inflated(state, facts)
    except (safetensors.SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path}: a safetensors file that is cut off or damaged ({error}); copy or download it "
            "again"
        ) from error
    if not state and "base" not in facts:
        raise UserError(f"{path}: a safetensors file without a tensor in it")
    wrapper = "safetensors"
    if any(key.endswith(SCALE) for key in state):
        state, wrapper = unpacked(state), wrapper + ", 8-bit"
    if told := facts.get("base"):
        name, digest = told.split()
        state = {**read_checkpoint(_base(path, name, digest)).state, **state}
        wrapper += f", over {name}"
    return state, wrapper, facts


def _base(path: Path, name: str, digest: str) -> Path:
    """Return the file that ``path`` holds the differences to: beside it, or shipped."""
    for folder in (path.parent, home() / "weights"):
        found = folder / name
        if found.is_file() and sha256(found) == digest:
            return found
    raise UserError(
        f"{path}: holds only what differs from {name} (SHA-256 {digest[:12]}…), which is not "
        "beside it; put that file there"
    )


def load_strictly(network: torch.nn.Module, state: State, path: Path | str) -> None:
    """Put ``state`` into ``network``; every key and shape must match.

    Raises:
        UserError: keys are missing or too many or have other shapes; the message lists them.
    """
    wanted = network.state_dict()
    own = ""  # what the network itself is wrapped in was taken off the file's names
    while prefix := _prefix(key.removeprefix(own) for key in wanted):
        own += prefix
    if own and not any(key in wanted for key in state):
        state = {own + key: value for key, value in state.items()}
    inside = _only_prefix(state, wanted)
    if inside:
        state = {
            key.removeprefix(inside): one for key, one in state.items() if not _TRAINING.match(key)
        }
    missing = [key for key in wanted if key not in state]
    # Files from before PyTorch 0.4.1 hold no batch counters; they carry no weight.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    problems = [
        f"{what}: {', '.join(keys[:SHOWN])}{f' and {len(keys) - SHOWN} more' * (len(keys) > SHOWN)}"
        for what, keys in (("missing", missing), ("unknown", extra), ("shape", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"{path}: weights of another network. {'; '.join(problems)}")
    full = {key: state.get(key, value) for key, value in wanted.items()}
    network.load_state_dict({key: value.to(wanted[key].dtype) for key, value in full.items()})


def _only_prefix(state: State, wanted: Mapping[str, object]) -> str:
    """Return the one name of a module that stands before all that is wanted; '' for none."""
    first = next(iter(wanted), "")
    found = {key.removesuffix(first) for key in state if key.endswith(f".{first}")}
    fits = [
        one
        for one in found
        if all(one + key in state or key.endswith("num_batches_tracked") for key in wanted)
    ]
    return fits[0] if len(fits) == 1 and first not in state else ""


def save_weights(
    path: Path,
    state: Mapping[str, torch.Tensor],
    facts: Mapping[str, str],
    *,
    bits: int = 32,
    base: Path | None = None,
) -> None:
    """Write a state dict as safetensors with ``facts`` (command, seed …) in its header.

    base: another weights file of the same network; only tensors that differ from it are written.

    bits: 32 and 16 keep floats in that precision; 8 (down to 2) stores weights of two or more
    dimensions in so many bits with a scale per output channel, those of fewer than ``FEW`` values
    in half precision and the rest in float32, all of it deflated.
    """
    out: State = {}
    same: State = {}
    if base is not None:
        same = read_checkpoint(base).state
        facts = {**facts, "base": f"{base.name} {sha256(base)}"}
    for key, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        if key in same and torch.equal(same[key].to(value.dtype), value):
            continue
        out[key] = value.half() if bits == 16 and value.is_floating_point() else value.clone()
    if bits <= 8:
        out, coded = deflated(packed(out, FEW, bits))
        facts = {**facts, **coded}
    write_with(path, lambda temporary: safetensors.torch.save_file(out, temporary, dict(facts)))


def header(path: Path) -> dict[str, str]:
    """Return the facts in the header of a safetensors file; empty for other files."""
    with Path(path).open("rb") as opened:
        if not _is_safetensors(opened.read(9)):
            return {}
    with safetensors.safe_open(path, "pt") as found:
        return dict(found.metadata() or {})
