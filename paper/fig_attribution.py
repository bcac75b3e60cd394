"""Guided Grad-CAM and LRP of universal detectors and of ImageNet classifiers, side by side."""

from __future__ import annotations

import pandas as pd

import forensift.figures as figures
from forensift import ImageSet, UserError, explain, get_preset
from forensift.detectors.classifiers import load_classifier
from forensift.explain.heat import BLUR, heat, scaling_words
from forensift.records import FAKE
from forensift.studies.demo import paper

METHODS = {"guided-gradcam": "Guided Grad-CAM", "lrp": "LRP"}
PUBLISHED = "resnet50-imagenet,efficientnet-b0-imagenet"
CARRIED = "efficientnet-lite0-imagenet"  # its real ImageNet weights come with a package


def main() -> None:
    def more(parser):
        add = parser.add_argument
        add("--images", type=int, default=3, help="rows: so many fakes")
        add("--classifiers", metavar="NAME[=FILE],…", help="ImageNet classifiers; 'none' for none")
        add("--preset", help="default: imagenet (256, centre 224) with --data, else native size")
        add("--scaling", default="percentile-99", help="of the drawing; max is the published one")

    bench = paper.bench("fig_attribution", __doc__, arch="resnet50,efficientnet-b0", more=more)
    o = bench.options
    preset = o.preset or ("imagenet" if o.data else paper.NATIVE)
    chosen = []
    for place in range(o.images):  # generators take turns, and each shows another photograph
        generator = bench.images.generators[place % len(bench.images.generators)]
        fakes = bench.images.only(label=FAKE, generator=generator).entries
        chosen.append(fakes[len(fakes) * (2 * place + 1) // (2 * o.images)])
    images = ImageSet(bench.images.root, tuple(chosen))
    order = {images.image_id(entry): place for place, entry in enumerate(chosen)}
    networks = {f"{arch}\ndetector": bench.detector(arch) for arch in bench.archs}
    asked = o.classifiers or (PUBLISHED if o.data else CARRIED)
    for text in [] if asked == "none" else asked.split(","):
        name, _, file = text.partition("=")
        try:
            classifier = load_classifier(name, weights=file or None, device=o.device)
        except UserError as error:  # not to be had here: the rest is still worth drawing
            bench.say(f"left out: {error}")
            continue
        networks[f"{name.removesuffix('-imagenet')}\nImageNet"] = classifier
    heats, rows, shown = {}, [], []
    for label, network in networks.items():
        for method, words in METHODS.items():
            placed = network.with_preset(get_preset(preset))
            found = explain(placed, images, method, batch_size=o.batch_size, seed=o.seed)
            found.sort(key=lambda one: order[one.key])  # images of several sizes come by size
            blur = BLUR if method == "lrp" else 0
            heats[f"{label}\n{words}"] = [heat(one.map, o.scaling, blur)[0] for one in found]
            shown = [one.pixels for one in found]
            for one in found:
                raw = {
                    "positive_sum": float(one.map.clip(min=0).sum()),
                    "sum": float(one.map.sum()),
                }
                named = {"network": label.replace("\n", ", "), "method": method, "image": one.key}
                rows.append({**named, "target": one.target_name, "logit": one.logit, **raw})
    names = [entry.generator for entry in chosen]
    scaling = scaling_words(o.scaling, 0, "lrp") + f"; LRP: median filter {BLUR} px"
    figure = figures.plot_attributions(shown, heats, rows=names, scaling=scaling)
    figures.save(figure, bench.folder, "attribution")
    bench.save({"attribution": pd.DataFrame(rows)}, preset=preset, scaling=o.scaling)


if __name__ == "__main__":
    paper.run(main)
