from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from forensift.data import (
    EXTENSIONS,
    image_size,
    manifest_table,
    read_image,
    require_both_classes,
    scan,
)
from forensift.errors import UserError
from forensift.evaluation.intervals import clusters_of
from forensift.files import write_csv
from forensift.records import ImageSet

from .conftest import write_image

MakeFolder = Callable[..., Path]


def make(root: Path, *names: str) -> Path:
    """Make empty files: scanning does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(images: ImageSet) -> list[tuple[str, int, str, str]]:
    return [(images.image_id(e), e.label, e.generator, e.class_name) for e in images]


def test_a_folder_of_generators_with_and_without_classes(tmp_path: Path) -> None:
    make(
        tmp_path,
        "progan/car/0_real/b.png",
        "progan/car/1_fake/a.PNG",
        "progan/train/1_fake/a.png",
        "biggan/0_real/1.jpeg",
        "biggan/1_fake/.hidden.png",
        "biggan/1_fake/sub/2.JPG",
        ".cache/0_real/3.png",
        "readme.txt",
    )
    images = scan(tmp_path)
    assert images.layout == "forensynths"
    assert rows(images) == [
        ("biggan/0_real/1.jpeg", 0, "biggan", ""),
        ("biggan/1_fake/sub/2.JPG", 1, "biggan", ""),
        ("progan/car/0_real/b.png", 0, "progan", "car"),
        ("progan/car/1_fake/a.PNG", 1, "progan", "car"),
        ("progan/train/1_fake/a.png", 1, "progan", "train"),
    ]


def test_one_generator_with_and_without_classes(tmp_path: Path) -> None:
    make(tmp_path / "gaugan", "0_real/a.png", "1_fake/a.png")
    assert [row[1:] for row in rows(scan(tmp_path / "gaugan"))] == [
        (0, "gaugan", ""),
        (1, "gaugan", ""),
    ]
    make(tmp_path / "stylegan2", "cat/0_real/a.png", "cat/1_fake/a.png", "car/1_fake/a.png")
    assert [row[1:] for row in rows(scan(tmp_path / "stylegan2"))] == [
        (1, "stylegan2", "car"),
        (0, "stylegan2", "cat"),
        (1, "stylegan2", "cat"),
    ]


def test_training_folders_are_splits_not_generators(tmp_path: Path) -> None:
    make(tmp_path / "progan", "train/cat/0_real/a.png", "val/train/1_fake/a.png")
    assert [row[1:] for row in rows(scan(tmp_path / "progan"))] == [
        (0, "progan", "cat"),
        (1, "progan", "train"),
    ]


def test_genimage(tmp_path: Path) -> None:
    make(
        tmp_path,
        "ADM/imagenet_ai_0508_adm/train/ai/a.png",
        "ADM/imagenet_ai_0508_adm/val/nature/a.JPEG",
        "glide/val/ai/a.png",
        "glide/train/nature/a.png",
        "sdv5/nature/a.png",
    )
    images = scan(tmp_path)
    assert images.layout == "genimage"
    assert [row[1:3] for row in rows(images)] == [
        (1, "ADM"),
        (0, "ADM"),
        (0, "glide"),
        (1, "glide"),
        (0, "sdv5"),
    ]
    assert {row[2:] for row in rows(scan(tmp_path / "glide"))} == {("glide", "")}


def test_real_and_fake_folders(tmp_path: Path) -> None:
    make(tmp_path / "commfor", "Flux/real/a.webp", "Flux/fake/a.webp", "Dalle/Fake/a.webp")
    images = scan(tmp_path / "commfor")
    assert images.layout == "real-fake"
    assert [row[1:3] for row in rows(images)] == [(1, "Dalle"), (1, "Flux"), (0, "Flux")]


def test_the_order_of_the_file_system_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *(f"{g}/{k}/{n}.png" for g in "ba" for k in ("1_fake", "0_real") for n in "31"))
    forward = rows(scan(tmp_path))
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with scandir(path) as found:
                self.listed = list(found)[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.listed

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Reversed)
    assert rows(scan(tmp_path)) == forward == sorted(forward)


def test_a_directory_named_like_an_image_is_listed(tmp_path: Path) -> None:
    make(tmp_path, "g/0_real/a.png", "g/1_fake/a.png", "g/1_fake/x.png/inside.png")
    assert [row[0] for row in rows(scan(tmp_path))][-1] == "g/1_fake/x.png"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, "g/0_real/a.png")
    (tmp_path / "g" / "again").symlink_to(tmp_path)
    assert len(scan(tmp_path)) == 1


def test_a_manifest_comes_back_equal(image_folder: MakeFolder, tmp_path: Path) -> None:
    images = scan(image_folder())
    out = tmp_path / "results"
    write_csv(out / "manifest.csv", manifest_table(images, relative_to=out))
    again = scan(out / "manifest.csv")
    assert again.entries == images.entries
    assert again.root == images.root
    assert again.hash() == images.hash()
    assert (out / "manifest.csv").read_text().splitlines()[:2] == [
        "path,label,generator,class",
        "../set/one/0_real/0.png,0,one,",
    ]


def test_odd_file_names_survive(tmp_path: Path) -> None:
    names = ['g/0_real/a,b "c".png', "g/0_real/line\nbreak.png", "g/1_fake/é.png"]
    make(tmp_path / "set", *names)
    images = scan(tmp_path / "set")
    write_csv(tmp_path / "manifest.csv", manifest_table(images, relative_to=tmp_path))
    assert scan(tmp_path / "manifest.csv").entries == images.entries
    (tmp_path / "set" / "g" / "1_fake" / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(UserError, match=r"1_fake: the name '\\udcff.png' is not UTF-8"):
        scan(tmp_path / "set")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "generator,label\ng,0\n",
            "'path' is missing .* found are generator, label",
        ),
        ("path,label,generator,class\n", "no images are listed"),
        ("path,label,generator,class\na.png,0,g,\nb.png,maybe,g,\n", "row 3: label 'maybe'"),
        ("path,label,generator,class\na.png,0,,\n", "row 2: path or generator is empty"),
        ("path,label,generator,class\na.png,0,g,\na.png,1,g,\n", "row 3: a.png is listed twice"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_csv_that_does_not_fit(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        scan(tmp_path / "m.csv")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or file"):
        scan(tmp_path / "absent")
    with pytest.raises(UserError, match="is empty; expected"):
        scan(tmp_path)
    make(tmp_path / "text", "0_real/a.txt")
    with pytest.raises(UserError, match="no images"):
        scan(tmp_path / "text")
    make(tmp_path / "flat", "a.png", "b.png")
    with pytest.raises(UserError, match="2 images, but none in a folder that says real or fake"):
        scan(tmp_path / "flat")
    make(tmp_path / "words", "one/a.png", "two/b.png")
    with pytest.raises(UserError, match=r"they lie in one, two\); call the folders real"):
        scan(tmp_path / "words")
    make(tmp_path / "g", "0_real/a.png")
    with pytest.raises(UserError, match="1 image of one label; give the folder above it"):
        scan(tmp_path / "g" / "0_real")
    with pytest.raises(UserError, match="is a file; give a folder"):
        scan(tmp_path / "flat" / "a.png")
    with pytest.raises(UserError, match="no layout 'coco'"):
        scan(tmp_path / "g", layout="coco")
    with pytest.raises(UserError, match=r"no images .* in the layout genimage"):
        scan(tmp_path / "g", layout="genimage")


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a/0_real/1.png", "a/1_fake/1.png", "b/1_fake/1.png", "b/1_fake/2.png")
    images = scan(tmp_path)
    with pytest.raises(UserError, match=r"generator 'b' has no real images \(and 2 fake\)"):
        require_both_classes(images)
    require_both_classes(images.only(generator="a"))
    with pytest.raises(UserError, match="'a' has no fake images"):
        require_both_classes(images.only(generator="a", label=0))
    with pytest.raises(UserError, match="no images"):
        require_both_classes(ImageSet(tmp_path, ()))


def test_images_are_found_by_extension(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "ppm"):
        write_image(tmp_path / "0_real" / f"{suffix}.{suffix}")
    make(tmp_path, "0_real/a.gif", "0_real/b.npy")
    assert len(scan(tmp_path)) == 9


SUFFIXES = ["jfif", "JPE", "gif", "avif", "jp2", "tga", "pgm", "dib", "qoi", "sgi", "pcx", "ico"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whatever_pillow_reads_is_an_image(tmp_path: Path, suffix: str) -> None:
    path = write_image(tmp_path / "0_real" / f"a.{suffix}")
    images = scan(tmp_path)
    assert [entry.path for entry in images] == [path]
    assert images.left_out == ()
    assert read_image(path).mode == "RGB"
    assert image_size(path)[1:] == (16, 16)


def test_every_suffix_is_one_that_pillow_opens() -> None:
    Image.init()
    opened = {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    assert set(EXTENSIONS) - {".mpo"} <= opened


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    make(tmp_path, "g/0_real/a.png", "g/1_fake/a.png", "g/1_fake/b.heic", "g/1_fake/c.HEIC")
    make(tmp_path, "g/1_fake/hash", "g/1_fake/notes.txt", "misc/x.png", "y.png", "z.zip")
    images = scan(tmp_path)
    assert len(images) == 2
    assert images.left_out == (
        "1 file without a suffix: not a format that Pillow reads here",
        "2 .heic files: not a format that Pillow reads here",
        "1 .zip file: not looked into beside images; give it by itself",
        "1 image in the folder itself: no folder above it says real or fake",
        "1 image in misc/: no folder above it says real or fake",
    )
    assert "left out: 5 kinds" in repr(images)
    make(tmp_path / "heic", "0_real/a.heic")
    with pytest.raises(UserError, match=r"found 1 \.heic file:"):
        scan(tmp_path / "heic")
    make(tmp_path / "two", "a/0_real/a.png", "b/nature/a.png")
    assert scan(tmp_path / "two", layout="genimage").left_out == (
        "1 image of the layout forensynths",
    )
    make(tmp_path / "net", "real/x/a.png", "dm_generated/y/a.png", "dm_generated/b.png")
    assert scan(tmp_path / "net").left_out == (
        "1 image in dm_generated/: no folder above it says real or fake",
    )


@pytest.mark.parametrize("real", ["real", "0_real", "nature", "Real"])
def test_generators_beside_one_folder_of_reals(tmp_path: Path, real: str) -> None:
    make(tmp_path / "set", f"{real}/a.png", f"{real}/b.png", "sdxl/a.png", "mj/deep/a.png")
    images = scan(tmp_path / "set")
    assert images.layout == "shared-reals"
    assert images.left_out == ()
    assert sorted((row[2], row[1], row[0]) for row in rows(images)) == [
        ("mj", 0, f"{real}/a.png"),
        ("mj", 0, f"{real}/b.png"),
        ("mj", 1, "mj/deep/a.png"),
        ("sdxl", 0, f"{real}/a.png"),
        ("sdxl", 0, f"{real}/b.png"),
        ("sdxl", 1, "sdxl/a.png"),
    ]
    require_both_classes(images)
    write_csv(tmp_path / "m.csv", manifest_table(images, relative_to=tmp_path))
    assert scan(tmp_path / "m.csv").entries == images.entries


def test_generators_beside_reals_further_down(tmp_path: Path) -> None:
    names = [f"{at}/{one}/0.png" for at in ("bed", "train/cat") for one in ("real", "adm", "ddpm")]
    make(tmp_path, *names, "gan/0_real/a.png", "gan/1_fake/a.png")
    found = {(row[1], row[2], row[3]) for row in rows(scan(tmp_path))}
    assert found == {
        *((label, one, at) for label in (0, 1) for one in ("adm", "ddpm") for at in ("bed", "cat")),
        (0, "gan", ""),
        (1, "gan", ""),
    }


def test_a_folder_beside_reals_and_fakes_is_no_generator(tmp_path: Path) -> None:
    make(tmp_path, "real/a.png", "fake/a.png", "masks/a.png")
    images = scan(tmp_path)
    assert [row[1] for row in rows(images)] == [1, 0]
    assert images.left_out == ("1 image in masks/: no folder above it says real or fake",)


def test_reals_and_fakes_in_different_folders_are_told_what_to_do(tmp_path: Path) -> None:
    make(tmp_path / "one", "coco/real/a.png", "coco/fake/a.png", "sd/fake/a.png")
    with pytest.raises(UserError, match=r"'sd' has no real images.*\{real,<generator>.*--reals"):
        require_both_classes(scan(tmp_path / "one"))
    make(tmp_path / "two", "fake/a.png", "camera/a.png")
    with pytest.raises(UserError, match=r"no real images.*left out: 1 image in camera/"):
        require_both_classes(scan(tmp_path / "two"))


LABEL_FIRST = [
    "data/test/fake/flux/a.png", "data/test/fake/flux/b.png", "data/test/fake/sdxl/a.png",
    "data/test/real/redcaps/a.png", "data/test/real/redcaps/b.png",
]  # fmt: skip


def counts(images: ImageSet) -> dict[str, tuple[int, int]]:
    return {
        name: (
            len(images.only(generator=name, label=0)),
            len(images.only(generator=name, label=1)),
        )
        for name in images.generators
    }


@pytest.mark.parametrize("below", ["", "data/test", "data"])
def test_generators_below_the_label(tmp_path: Path, below: str) -> None:
    images = scan(make(tmp_path, *LABEL_FIRST) / below)
    assert counts(images) == {"flux": (2, 2), "sdxl": (2, 1)}
    assert images.layout == "label-first"
    assert images.notes == ("2 reals are shared by 2 generators",)
    assert dict(images.reading) == {
        "real": "real", "fake": "fake", "generator": "the folder below the label",
    }  # fmt: skip
    assert {e.class_name for e in images.only(label=0)} == {"redcaps"}
    require_both_classes(images)
    # The other reading is there for whoever asks for it.
    assert len(scan(tmp_path / below, layout="real-fake").generators) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # The same folders on both sides are classes, as are object classes and cut-up folders.
        (["fake/cat/a", "fake/dog/a", "real/cat/a", "real/dog/a"], {"set": (2, 2)}),
        (["fake/x/a", "fake/y/a", "real/x/a", "real/y/a"], {"set": (2, 2)}),
        (["fake/cat/a", "fake/dog/a", "real/a"], {"set": (1, 2)}),
        (["fake/000/a", "fake/001/a", "real/a"], {"set": (1, 2)}),
        (["fakes/flux/a", "fakes/sd3/a", "reals/a"], {"flux": (1, 1), "sd3": (1, 1)}),
        (["FAKE/flux/cat/a", "REAL/a"], {"flux": (1, 1)}),
        (["biggan/fake/x/a", "adm/fake/y/a", "biggan/real/a", "adm/real/a"],
         {"biggan": (1, 1), "adm": (1, 1)}),
        (["train/fake/flux/a", "test/fake/sd/a", "train/real/a", "test/real/b"],
         {"flux": (2, 1), "sd": (2, 1)}),
        (["fake/train/flux/a", "fake/test/sd/a", "real/train/a", "real/test/b"],
         {"flux": (2, 1), "sd": (2, 1)}),
    ],
)  # fmt: skip
def test_folders_below_the_label(
    tmp_path: Path, names: list[str], expected: dict[str, tuple[int, int]]
) -> None:
    images = scan(make(tmp_path / "set", *(f"{one}.png" for one in names)))
    assert counts(images) == expected


def test_two_possible_readings_are_both_said(tmp_path: Path) -> None:
    both = ["fake/flux/a.png", "fake/coco/a.png", "real/coco/a.png"]
    with pytest.raises(UserError, match=r"coco, flux, can be read .* label-first\) .* real-fake\)"):
        scan(make(tmp_path / "one", *both))
    assert counts(scan(tmp_path / "one", layout="label-first")) == {"coco": (1, 1), "flux": (1, 1)}
    assert counts(scan(tmp_path / "one", layout="real-fake")) == {"one": (1, 2)}
    names = [
        f"{at}/{one}/a.png" for at in ("face", "room") for one in ("fake/flux", "fake/sd", "real")
    ]
    with pytest.raises(
        UserError, match=r"flux, sd, can be .* as parts of the generators face, room"
    ):
        scan(make(tmp_path / "two", *names))
    images = scan(tmp_path / "two", layout="label-first")
    assert counts(images) == {"flux": (2, 2), "sd": (2, 2)}
    assert {e.class_name for e in images} == {"face", "room"}
    assert counts(scan(tmp_path / "two", layout="real-fake")) == {"face": (1, 2), "room": (1, 2)}


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("0_real", "1_fake"), ("REAL", "FAKE"), ("reals", "fakes"), ("Nature", "AI"),
        ("natural", "synthetic"), ("original", "generated"), ("authentic", "ai"),
        ("photo", "Synthetic"), ("0", "1"), ("real", "generated"), ("photographs", "aigc"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["{}", "{}/val", "test/{}", "gen/{}", "gen/train/{}"])
def test_words_for_real_and_fake(tmp_path: Path, real: str, fake: str, shape: str) -> None:
    for n, word in enumerate((real, fake)):
        make(tmp_path / "set", *(f"{shape.format(word)}/{i}.png" for i in range(n + 2)))
    images = scan(tmp_path / "set")
    assert counts(images) == {"gen" if "gen" in shape else "set": (2, 3)}
    assert images.left_out == ()
    assert dict(images.reading)["real"] == real
    assert dict(images.reading)["fake"] == fake


@pytest.mark.parametrize("fake", ["gan", "sd", "generated"])
def test_a_word_that_may_be_a_generator(tmp_path: Path, fake: str) -> None:
    images = scan(make(tmp_path, f"{fake}/a.png", "sdxl/a.png", "natural/a.png", "masks/a.png"))
    assert counts(images) == {fake: (1, 1), "sdxl": (1, 1)}
    assert images.left_out == ("1 image in masks/: no folder above it says real or fake",)


def test_ten_digits_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none in a folder that says"):
        scan(make(tmp_path, *(f"{n}/a.png" for n in range(10))))
    images = scan(
        make(tmp_path / "real-fake", *(f"real/{n}/a.png" for n in range(2)), "fake/0/a.png")
    )
    assert counts(images) == {"real-fake": (2, 1)}


def test_splits_are_not_taken_together_in_silence(tmp_path: Path) -> None:
    names = [f"{at}/{kind}/a.png" for at in ("train", "test") for kind in ("REAL", "FAKE")]
    images = scan(make(tmp_path / "cifake", *names, "train/FAKE/b.png"))
    assert images.notes == (
        "test (2 images) and train (3 images) are taken together; give the folder of one for it "
        "alone",
    )
    assert scan(tmp_path / "cifake" / "test").notes == ()


def test_generators_that_have_fakes_alone_share_the_reals(tmp_path: Path) -> None:
    make(tmp_path, "imagenet/0_real/a.png", "ldm_200/1_fake/a.png", "glide_100_27/1_fake/b.png")
    images = scan(tmp_path)
    assert counts(images) == {"glide_100_27": (1, 1), "ldm_200": (1, 1)}
    assert images.layout == "forensynths+shared-reals"
    assert images.notes == ("1 real is shared by 2 generators",)
    require_both_classes(images)
    make(tmp_path, "laion/0_real/a.png", "own/0_real/a.png", "own/1_fake/a.png")
    images = scan(tmp_path)
    assert counts(images) == {"glide_100_27": (2, 1), "ldm_200": (2, 1), "own": (1, 1)}
    assert "imagenet, laion together" in images.notes[0]
    assert {e.class_name for e in images.only(label=0, generator="ldm_200")} == {
        "imagenet",
        "laion",
    }
    one = scan(tmp_path, reals="laion")
    assert counts(one.only(generator="ldm_200")) == {"ldm_200": (1, 1)}


@pytest.mark.parametrize("reals", ["RAISEpng", "raise-1k", "mscoco_val2017"])
def test_fakes_beside_a_collection_of_photographs(tmp_path: Path, reals: str) -> None:
    make(tmp_path, "dalle3/a.png", "dalle3/b.png", "midjourney-v5/a.png", f"{reals}/r.png")
    images = scan(tmp_path)
    assert counts(images) == {"dalle3": (1, 2), "midjourney-v5": (1, 1)}
    assert images.notes[0].startswith(f"{reals} is taken for the reals, by its name")
    assert scan(tmp_path, reals=reals).entries == images.entries


def test_reals_given_from_elsewhere(tmp_path: Path) -> None:
    make(tmp_path / "synthbuster", "dalle3/a.png", "sd/b.png")
    make(tmp_path / "holiday", "x/r.png", "s.png")
    images = scan(tmp_path / "synthbuster", reals=tmp_path / "holiday")
    assert counts(images) == {"dalle3": (2, 1), "sd": (2, 1)}
    assert images.root == tmp_path
    assert rows(images)[0] == ("holiday/s.png", 0, "dalle3", "")
    write_csv(tmp_path / "m.csv", manifest_table(images, relative_to=tmp_path))
    assert scan(tmp_path / "m.csv").entries == images.entries
    with pytest.raises(UserError, match="reals nowhere: no such folder"):
        scan(tmp_path / "synthbuster", reals="nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        scan(tmp_path / "synthbuster", reals=tmp_path / "empty")


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (["a/b/c/mygan"], {("mygan", "")}),
        (["a/b/one", "a/b/two"], {("one", ""), ("two", "")}),
        (["a/b", "a/b/c"], {("b", ""), ("b", "c")}),
        (["x/progan/car", "x/progan/cat"], {("progan", "car"), ("progan", "cat")}),
        (["progan/car"], {("progan", "car")}),
        (["ADM/imagenet_ai_0508_adm"], {("ADM", "imagenet_ai_0508_adm")}),
        (["biggan/n01440764"], {("biggan", "n01440764")}),
        (["data/images/one", "data/images/two"], {("one", ""), ("two", "")}),
        (["one/faces", "two/faces"], {("one", "faces"), ("two", "faces")}),
    ],
)
def test_the_generator_is_the_folder_that_names_it(
    tmp_path: Path, folders: list[str], named: set[tuple[str, str]]
) -> None:
    make(tmp_path, *(f"{one}/{kind}/a.png" for one in folders for kind in ("0_real", "1_fake")))
    assert {row[2:] for row in rows(scan(tmp_path))} == named


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,real\nb.png,FAKE\n",
        "filename;label;generator\na.png;0;m\nb.png;1;m\n",
        "label\tImage_Path\n0_real\ta.png\n1_fake\t./b.png\n",
        "\ufefffile_name,target,class\r\na.png,0.0,\r\nb.png,1.0,\r\n",
    ],
)
def test_csvs_as_people_have_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    assert rows(scan(tmp_path / "m.csv")) == [("a.png", 0, "m", ""), ("b.png", 1, "m", "")]


def test_one_file_under_two_spellings_is_listed_twice(tmp_path: Path) -> None:
    for first, second in (("x.png,0,g", "./x.png,0,g"), ("x.png,0,g", "d/../x.png,1,h")):
        (tmp_path / "m.csv").write_text(f"path,label,generator\n{first}\n{second}\n")
        with pytest.raises(UserError, match=r"row 3: .*x\.png is listed twice"):
            scan(tmp_path / "m.csv")


def test_an_image_set_is_short_and_can_be_cut(image_folder: MakeFolder) -> None:
    images = scan(image_folder(n=50))
    assert len(repr(images)) < 250
    assert "200 images (100 real, 100 fake) of 2 generators (one, two)" in repr(images)
    assert "<td>50</td>" in images._repr_html_()
    assert images[3] is images.entries[3]
    part = images[10:30:2]
    assert isinstance(part, ImageSet)
    assert (part.entries, part.root) == (images.entries[10:30:2], images.root)


def test_the_hash_tells_files_of_one_size_apart(tmp_path: Path) -> None:
    for place, label in enumerate(("0_real", "1_fake")):
        write_image(tmp_path / label / "a.bmp", seed=place)
    images = scan(tmp_path)
    before = images.hash()
    assert scan(tmp_path).hash() == before
    write_image(tmp_path / "1_fake" / "a.bmp", seed=7)
    assert images.hash() != before
    write_image(tmp_path / "1_fake" / "a.bmp", seed=1)
    assert images.hash() == before
    (tmp_path / "1_fake" / "a.bmp").unlink()
    assert images.hash() != before


def test_intervals_take_a_shared_real_for_one_photograph(tmp_path: Path) -> None:
    make(tmp_path, *(f"coco/0_real/{name}.png" for name in "abcd"))
    make(tmp_path, *(f"{one}/1_fake/{one}{n}x.png" for one in ("adm", "sd") for n in range(3)))
    images = scan(tmp_path)
    table = pd.DataFrame({"path": [images.image_id(e) for e in images]})
    names, over = clusters_of(table, "photograph")
    assert over == "photographs"
    assert names is not None
    reals = [name for name, entry in zip(names, images, strict=True) if entry.label == 0]
    assert sorted(reals) == sorted(2 * list("abcd"))
    assert len(set(names)) == 4 + 6
