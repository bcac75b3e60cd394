"""``forensift doctor``: what is installed, what does not fit, how to mend it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .verb import one_line_errors

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from ..detectors.backbones import Published

OK, NOTE, BAD = "ok", "note", "does not fit"
MEMORY, DISK = 3.0, 0.2  # GB that `forensift demo` takes
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox")


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, ok | note | does not fit."""

    what: str
    found: str
    state: str
    mend: str = ""


def doctor() -> None:
    """Print what forensift stands on, what fits this machine, and how to mend what does not.

    Example: `forensift doctor`

    Looks at packages, processors and GPUs, memory, free disk, photographs, weights, and a browser.

    Exit code 2 if something that is needed is missing or does not fit.
    """
    import pandas as pd

    from ..views import Shown
    from .tables import console, show_table

    with one_line_errors([]):
        findings = [*packages(), torchvision(), *devices(), *machine(), *files()]
        table = pd.DataFrame([vars(one) for one in findings])
        table.columns = ["what", "found", "state", "how to mend it"]
        show_table(Shown("", table), console(), title="What forensift stands on")
        bad = [one.what for one in findings if one.state == BAD]
        if bad:
            raise UserError(f"{len(bad)} of {len(findings)} do not fit: {', '.join(bad)}")
        print("forensift can run.")


def packages() -> list[Finding]:
    """Compare the installed packages with what forensift asks for."""
    from packaging.requirements import Requirement

    found = [Finding("python", platform.python_version(), OK)]
    for text in metadata.requires("forensift") or []:
        requirement = Requirement(text)
        extra = re.search(r"extra == ['\"](\w+)['\"]", text)
        if extra and extra[1] == "dev":
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if extra:
                mend = f"only in tests: {_install(requirement)}"
                found.append(Finding(requirement.name, "not installed", NOTE, mend))
            else:
                found.append(Finding(requirement.name, "not installed", BAD, _install(requirement)))
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        mend = "" if fits else _install(requirement)
        found.append(Finding(requirement.name, version, OK if fits else BAD, mend))
    return found


def _install(requirement: Requirement) -> str:
    """Return the command that installs a package for this Python."""
    return f"{sys.executable} -m pip install '{requirement.name}{requirement.specifier}'"


def torchvision() -> Finding:
    """Say whether torchvision's compiled operators fit this torch, or the guard stands in."""
    what = "torchvision operators"
    try:
        from ..torchvision_guard import compiled_library_loads, guard

        guard()
        import torchvision as found
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        mend = "install torch and torchvision from the same index, of releases that belong together"
        return Finding(what, f"{type(error).__name__}: {reason}", BAD, mend)
    if compiled_library_loads():
        return Finding(what, f"{found.__version__}: compiled library loaded", OK)
    return Finding(
        what,
        f"{found.__version__}: compiled library does not fit this torch; schemas stand in",
        NOTE,
        "nothing to do: forensift does not use torchvision.ops or torchvision.io",
    )


def devices() -> list[Finding]:
    """Say which processors torch can use."""
    try:
        import torch
    except Exception as error:
        return [Finding("torch", f"{type(error).__name__}: {error}", BAD, "reinstall torch")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("CPU", f"{cores} cores, {torch.get_num_threads()} torch threads", OK)]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            memory = f"{facts.total_memory / 2**30:.0f} GiB"
            found.append(Finding(f"cuda:{index}", f"{facts.name}, {memory}", OK))
    else:
        build, there = torch.version.cuda, Path("/dev/nvidia0").exists()
        why = f"no GPU that fits CUDA {build}" if build else "torch is built without CUDA"
        mend = "all works on the CPU; training is slow there"
        if there and not build:
            mend = (
                "a GPU is there: install torch and torchvision from the CUDA index of pytorch.org"
            )
        elif there:
            mend = f"a GPU is there: install a driver that knows CUDA {build}"
        found.append(Finding("cuda", why, NOTE, mend))
    return found


def machine() -> list[Finding]:
    """Say whether memory, disk and a browser are enough, and for what not."""
    import torch

    from ..sweep.memory import free_bytes

    free = free_bytes(torch.device("cpu")) / 1e9
    enough = free >= MEMORY
    mend = "" if enough else "batches shrink by themselves; `--per-family 4` makes a small demo"
    text = f"{free:.1f} GB free; the demo takes {MEMORY} GB"
    found = [Finding("memory", text, OK if enough else NOTE, mend)]
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free >= DISK
    mend = "" if enough else "free some, or give another disk with --out"
    text = f"{free:.1f} GB free here; the demo writes {DISK} GB"
    found.append(Finding("disk", text, OK if enough else BAD, mend))
    browser = next(filter(None, map(shutil.which, BROWSERS)), "")
    mend = (
        ""
        if browser
        else "any browser opens reports and `explore`; tests: apt-get install chromium"
    )
    found.append(Finding("browser", browser or "no Chromium", OK if browser else NOTE, mend))
    return found


def files() -> list[Finding]:
    """Say whether the photographs and the weights that belong to the clone are there."""
    from ..data import photographs
    from ..files import home

    try:
        folder = home()
        counts = {split: len(photographs(split)) for split in ("train", "validation", "test")}
    except UserError as error:
        return [Finding("photographs", "missing", BAD, str(error))]
    text = ", ".join(f"{n} {split}" for split, n in counts.items())
    found = [Finding("photographs", text, OK)]
    try:
        from ..detectors import ARCHITECTURES, shipped_weights
    except Exception as error:  # torch or a network's package does not import
        return [*found, Finding("detectors", f"{type(error).__name__}: {error}", BAD)]
    for name, architecture in ARCHITECTURES.items():
        path = shipped_weights(name)
        if path.is_file():
            megabytes = f"{path.relative_to(folder)}, {path.stat().st_size / 1e6:.1f} MB"
            found.append(Finding(f"detector {name}", megabytes, OK))
        else:
            published, backbone = architecture.published, architecture.backbone
            text = "no weights shipped"
            mend = f"{name}=FILE with weights of yours, or forensift train {name}"
            if published:
                text += f"; {_licences(published)}"
                mend = f"{name}={published}"
            if backbone:
                text += f"; its backbone's {_licences(backbone)}"
                mend += f" --backbone {backbone}"
            found.append(Finding(f"detector {name}", text, NOTE, mend))
    return found


def _licences(published: Published) -> str:
    """Say under which licences code and weights are published."""
    return f"code: {published.code}, weights: {published.weights}"
