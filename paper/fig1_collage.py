"""Fig. 1: LRP-max patches of the top feature maps, a row a map, a collage a generator."""

from __future__ import annotations

import forensift.figures as figures
from forensift.patches import patches
from forensift.studies.demo import paper


def main() -> None:
    def more(parser):
        parser.add_argument("--maps", type=int, default=5, help="rows: the top so many maps")
        parser.add_argument("--n", type=int, default=5, help="patches a map")

    bench = paper.bench("fig1_collage", __doc__, more=more)
    for arch in bench.archs:
        detector = bench.detector(arch)
        ranking = bench.ranking(detector)
        tables = {}
        for generator in bench.images.generators:
            found = patches(
                detector,
                bench.images,
                ranking,
                bench.options.maps,
                bench.options.n,
                generator=generator,
                batch_size=bench.options.batch_size,
                seed=bench.options.seed,
            )
            name = f"{arch}-{generator}"
            pages = figures.plot_collage(found, title=f"{arch}, fakes of {generator}")
            figures.save_pages(pages, bench.folder, name)
            tables[name] = found.table
        bench.save(tables)


if __name__ == "__main__":
    paper.run(main)
