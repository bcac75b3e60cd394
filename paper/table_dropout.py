"""Feature-map dropout: AP and accuracies without the top-k, random-k and low-k maps."""

from __future__ import annotations

import pandas as pd

import forensift.figures as figures
from forensift import dropout
from forensift.studies.demo import paper

ROWS = {"baseline": "baseline", "top-k": "top-k", "random-k": "random-k-ensemble", "low-k": "low-k"}
HEADS = {"ap": "AP", "real_accuracy": "real", "fake_accuracy": "fake"}


def published_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Return the study's table: a row a mask, three columns a generator, percent."""
    rows = []
    for name, mask in ROWS.items():
        row = {"": name}
        for generator in dict.fromkeys(table["generator"]):
            found = table[(table["generator"] == generator) & (table["mask"] == mask)].iloc[0]
            for column, head in HEADS.items():
                row[f"{generator} {head}"] = f"{100 * found[column]:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    def more(parser):
        parser.add_argument("--draws", type=int, default=20, help="of each random control")

    bench = paper.bench("table_dropout", __doc__, arch="resnet50,efficientnet-b0", more=more)
    tables = {}
    for arch in bench.archs:
        detector = bench.detector(arch)
        ranking, k = bench.ranking(detector), bench.k(arch)
        bench.say(f"{arch}: dropping {k} of {len(detector.feature_maps)} feature maps")
        result = dropout(
            detector,
            bench.images,
            ranking,
            k,
            draws=bench.options.draws,
            ks=(),
            training_family=bench.training_family,
            batch_size=bench.options.batch_size,
            seed=bench.options.seed,
        )
        figure = figures.plot_dropout(result.summary, title=f"{arch}: {k} feature maps dropped")
        figures.save(figure, bench.folder, arch)
        shown = published_layout(result.table)
        paper.write_markdown(bench.folder / f"{arch}.md", f"{arch}, k = {k}", shown)
        tables |= {arch: shown, f"{arch}-draws": result.table, f"{arch}-summary": result.summary}
    bench.save(tables)


if __name__ == "__main__":
    paper.run(main)
