from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from forensift import torchvision_guard
from forensift.torchvision_guard import SCHEMAS, GuardedImport, guard, install, missing_operators

LOADED = "import torchvision; torchvision.models.resnet18(); torchvision.transforms.Resize(8)"
START = "import sys, forensift; assert 'torch' not in sys.modules; "


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_torchvision_imports_after_forensift() -> None:
    """Whatever build of torchvision stands beside torch, models and transforms work."""
    done = python(START + LOADED)
    assert done.returncode == 0, done.stderr


def test_the_guard_works_once() -> None:
    import torchvision  # noqa: F401

    assert missing_operators() == []
    assert guard() == []
    finders = sys.meta_path.copy()
    install()
    assert sys.meta_path == finders
    assert sum(isinstance(finder, GuardedImport) for finder in finders) == 1
    assert all(hasattr(torch.ops.torchvision, name) for name in SCHEMAS)


def test_a_missing_torchvision_is_no_error_of_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not torchvision_guard.compiled_library_loads()
