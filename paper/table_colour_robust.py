"""AP on RGB and on grey input: the baseline against its colour-robust (CR) version."""

from __future__ import annotations

import pandas as pd

import forensift.figures as figures
from forensift import colour
from forensift.studies.demo import paper


def main() -> None:
    bench = paper.bench("table_colour_robust", __doc__, arch="resnet50,efficientnet-b0")
    parts = []
    for arch in bench.archs:
        for training in (paper.BASELINE, paper.ROBUST):
            detector = bench.detector(arch, training)
            if detector is None:
                continue
            result = colour(
                detector,
                bench.images,
                ("rgb", "grey"),
                batch_size=bench.options.batch_size,
                seed=bench.options.seed,
            )
            parts.append(result.table.assign(detector=arch, training=training))
    table = pd.concat(parts, ignore_index=True)
    named = {"rgb": "RGB"}
    drawn = table.assign(kind=table["training"] + ", " + table["mode"].replace(named)).rename(
        columns={"detector": "panel", "generator": "group", "ap": "value"}
    )
    drawn = drawn.assign(low=table["ap_low"], high=table["ap_high"])
    figure = figures.plot_intervals(drawn, xlabel="AP (%)")
    figures.save(figure, bench.folder, "colour_robust")
    rows = []
    for (arch, training, mode), own in table.groupby(["detector", "training", "mode"], sort=False):
        cells = zip(own["generator"], own["ap"], own["ap_low"], own["ap_high"], strict=True)
        row = {"AP": f"{arch}, {training} ({named.get(mode, mode)})"}
        for name, ap, low, high in cells:
            row[name] = f"{100 * ap:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        rows.append(row)
    title = "AP in percent [95 %]"
    paper.write_markdown(bench.folder / "colour_robust.md", title, pd.DataFrame(rows))
    bench.save({"colour_robust": table})


if __name__ == "__main__":
    paper.run(main)
