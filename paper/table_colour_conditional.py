"""How many of the top-k feature maps are colour-conditional, by four criteria."""

from __future__ import annotations

import pandas as pd

import forensift.figures as figures
from forensift import median_test
from forensift.studies.demo import paper


def main() -> None:
    def more(parser):
        parser.add_argument("--num-instances", type=int, default=500, help="fakes of a class")

    bench = paper.bench(
        "table_colour_conditional", __doc__, arch="resnet50,efficientnet-b0", more=more
    )
    parts = []
    for arch in bench.archs:
        detector = bench.detector(arch)
        result = median_test(
            detector,
            bench.images,
            bench.ranking(detector),
            bench.k(arch),
            num_instances=bench.options.num_instances,
            batch_size=bench.options.batch_size,
            seed=bench.options.seed,
        )
        parts.append(result.percentages.assign(detector=arch))
    table = pd.concat(parts, ignore_index=True)
    drawn = table.rename(
        columns={"detector": "panel", "generator": "group", "criterion": "kind", "share": "value"}
    )
    figure = figures.plot_intervals(drawn, xlabel="colour-conditional maps (%)")
    figures.save(figure, bench.folder, "colour_conditional")
    rows = []
    for (arch, generator), own in table.groupby(["detector", "generator"], sort=False):
        row = {"detector": arch, "generator": generator, "maps": own["maps"].iloc[0]}
        for one in own.to_dict("records"):
            interval = f"[{100 * one['low']:.1f}, {100 * one['high']:.1f}]"
            row[one["criterion"]] = f"{100 * one['share']:.1f} {interval}"
        rows.append(row)
    title = "Colour-conditional feature maps, percent [95 % over maps]"
    paper.write_markdown(bench.folder / "colour_conditional.md", title, pd.DataFrame(rows))
    bench.save({"colour_conditional": table})


if __name__ == "__main__":
    paper.run(main)
