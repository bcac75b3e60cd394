"""Fig. 4: the probability of fake of the same fakes in colour and in grey, as box plots."""

from __future__ import annotations

import forensift.figures as figures
from forensift import colour
from forensift.studies.demo import paper


def main() -> None:
    bench = paper.bench("fig4_whiskers", __doc__, arch="resnet50,efficientnet-b0")
    tables = {}
    for arch in bench.archs:
        result = colour(
            bench.detector(arch),
            bench.images,
            ("rgb", "grey"),
            batch_size=bench.options.batch_size,
            seed=bench.options.seed,
        )
        title = f"{arch}: fakes of p ≥ 0.2 in RGB"
        figure = figures.plot_colour_boxes(result.box, result.scores, title=title)
        figures.save(figure, bench.folder, arch)
        tables |= {f"{arch}-boxes": result.box, f"{arch}-scores": result.scores}
    bench.save(tables)


if __name__ == "__main__":
    paper.run(main)
