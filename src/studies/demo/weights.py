"""Where the weights that the project carries come from, read from the files themselves."""

from __future__ import annotations

import pandas as pd

from ...detectors import header
from ...files import home


def weights_rows() -> pd.DataFrame:
    """Return a row for each shipped file: its size, command, seed, minutes and result.

    Commands are those of all trainings that led to it, the first one first; minutes are their sum.
    """
    rows = []
    folder = home() / "weights"
    for path in sorted(folder.rglob("*.safetensors")):
        facts = header(path)
        commands = facts.get("command", "").splitlines()
        rows.append(
            {
                "file": str(path.relative_to(folder)),
                "MB": f"{path.stat().st_size / 1e6:.1f}",
                "trained by": "; then ".join(f"`{command}`" for command in commands),
                "seed": facts.get("seed", ""),
                "minutes": f"{float(facts.get('seconds', 'nan')) / 60:.0f}",
                "result": facts.get("result", ""),
            }
        )
    return pd.DataFrame(rows)
