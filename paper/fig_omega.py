"""How ω (FF-RS) is distributed over all feature maps, and which layers hold the top ones."""

from __future__ import annotations

import forensift.figures as figures
from forensift.studies.demo import paper


def main() -> None:
    bench = paper.bench("fig_omega", __doc__, arch="resnet50,efficientnet-b0", pairs=36)
    tables = {}
    for arch in bench.archs:
        ranking = bench.ranking(bench.detector(arch))
        figure = figures.plot_omega(ranking.table, bench.k(arch), title=arch)
        figures.save(figure, bench.folder, arch)
        keys = [str(one) for one in ranking.feature_maps()]
        tables[arch] = ranking.table.assign(key=keys)
    bench.save(tables)


if __name__ == "__main__":
    paper.run(main)
