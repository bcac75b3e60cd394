"""Fig. 6: the largest activations of the top maps in colour and in grey, and the median tests."""

from __future__ import annotations

import forensift.figures as figures
from forensift import median_test
from forensift.studies.demo import paper


def main() -> None:
    def more(parser):
        parser.add_argument("--maps", type=int, default=8, help="drawn: the top so many maps")
        parser.add_argument("--num-instances", type=int, default=500, help="fakes of a class")

    bench = paper.bench("fig6_median_test", __doc__, more=more)
    tables = {}
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
        curves = result.densities()
        for generator in result.maxima.images.generators:
            tests = result.table[result.table["generator"] == generator].head(bench.options.maps)
            own = curves[curves["generator"] == generator]
            title = f"{arch}, fakes of {generator}"
            for number, page in enumerate(figures.plot_densities(own, tests, title=title), 1):
                figures.save(page, bench.folder, f"{arch}-{generator}-{number}")
        tables |= {f"{arch}-tests": result.table, f"{arch}-percentages": result.percentages}
    figures.save(figures.plot_density_legend(), bench.folder, "legend")
    bench.save(tables)


if __name__ == "__main__":
    paper.run(main)
