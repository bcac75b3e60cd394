"""What the folders of a tree of images say: label, generator and class of what lies in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from ..errors import UserError, counted
from ..records import FAKE, REAL
from .names import (
    ASIDE,
    CLASSES,
    CONTAINERS,
    PHOTOGRAPHS,
    SPLITS,
    Folder,
    Said,
    is_class,
    is_number,
    said,
)

SHARED, BELOW = "shared-reals", "label-first"
Tree = dict[Folder, list[str]]  # folder below the root → its images, as paths below the root
Row = tuple[Folder, int, str, str]  # folder, label, generator, class


@dataclass
class Reading:
    """How a tree was understood.

    rows: folder, label, generator, class; a folder of shared reals has a row a generator.
    layouts: their names; left_out, notes: lines; words: label → its folders' words;
    named: where the generator's name was found; stray: folders that say nothing → images.
    """

    rows: list[Row] = field(default_factory=list)
    layouts: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    words: dict[int, set[str]] = field(default_factory=lambda: {REAL: set(), FAKE: set()})
    named: str = ""
    stray: dict[str, int] = field(default_factory=dict)


def read_folders(tree: Tree, root_name: str, layout: str, reals: Folder | None = None) -> Reading:
    """Return the reading of a tree.

    layout: 'auto' or one layout's name; reals: a folder whose images are the reals of all others.

    Raises:
        UserError: the folders can be read in two ways, and ``layout`` does not say in which.
    """
    every = said(tree)
    found = {one: what for one, what in every.items() if _asked(what, layout)}
    reading = Reading()
    unsaid = [one for one in tree if one not in every]
    if reals is None and not every and layout in ("auto", SHARED):
        reals = _collection(unsaid, reading)
    if reals is not None:
        found, unsaid = _by_pool(tree, found, reals, reading)
    elif layout in ("auto", SHARED):
        found, unsaid = _shared(tree, found, unsaid, reading)
        if layout == SHARED:
            found = {}
    else:
        unasked = Counter[str]()
        for one in every.keys() - found.keys():
            unasked[every[one].kind] += len(tree[one])
        reading.left_out += [
            f"{counted(n, 'image')} of the layout {kind}" for kind, n in sorted(unasked.items())
        ]
    if found:
        _labelled(found, root_name, layout, reading)
    reading.left_out += unlabelled(tree, unsaid)
    reading.stray = {"/".join(one): len(tree[one]) for one in unsaid}
    _tell_splits(tree, reading)
    return reading


def _asked(what: Said, layout: str) -> bool:
    return layout in ("auto", SHARED, BELOW, what.kind)


def _labelled(found: dict[Folder, Said], root_name: str, layout: str, reading: Reading) -> None:
    """Add the folders that say a label by themselves: the generator is above it, or below."""
    for what in found.values():
        reading.words[what.label].add(what.word)
    if layout == BELOW or (layout == "auto" and _is_below(found)):
        reading.layouts.add(BELOW)
        reading.named = "the folder below the label"
        reading.rows += _below(found, reading)
        return
    reading.layouts |= {what.kind for what in found.values()}
    named = _generators_and_classes(root_name, [what.above for what in found.values()])
    reading.rows += [
        (one, what.label, *name) for (one, what), name in zip(found.items(), named, strict=True)
    ]
    root = {generator for generator, _ in named} == {root_name}
    reading.named = "the folder itself" if root else "the folder above the label"


def _is_below(found: dict[Folder, Said]) -> bool:
    """Whether the folders below the label name generators: {real/redcaps, fake/flux, fake/sdxl}.

    Raises:
        UserError: they may as well be classes.
    """
    names = _firsts(found, FAKE)
    if not names or any(is_class(one) or is_number(one) for one in names):
        return False
    real = _firsts(found, REAL) or set()
    above = set(_without_shared(_without_splits([what.above for what in found.values()])))
    if len(above) <= 1:
        if not names & real:
            return True
        if names <= real:  # the same folders on both sides are classes
            return False
        raise _two_readings(names, "classes that reals and fakes have", "real-fake")
    places = {(_clean(what.below)[0], what.above) for what in found.values() if what.label == FAKE}
    recurs = max(Counter(name for name, _ in places).values()) > 1
    if len(names) > 1 and not names & real and recurs:
        some = sorted({one[-1] for one in above if one})
        raise _two_readings(names, f"parts of the generators {_few(some)}", "real-fake")
    return False


def _two_readings(names: set[str], otherwise: str, layout: str) -> UserError:
    return UserError(
        f"the folders below the label, {_few(sorted(names))}, can be read in two ways: as "
        f"generators (--layout {BELOW}) or as {otherwise} (--layout {layout}); say which by layout"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + " …" * (len(names) > 4)


def _firsts(found: dict[Folder, Said], label: int) -> set[str] | None:
    """Return the first folders below those of a label; None where images lie directly in one."""
    below = [_clean(what.below) for what in found.values() if what.label == label]
    return {one[0] for one in below} if all(below) else None


def _clean(folder: Folder) -> Folder:
    return tuple(one for one in folder if one.lower() not in SPLITS | CONTAINERS)


def _below(found: dict[Folder, Said], reading: Reading) -> list[Row]:
    """Return the rows of a tree whose generators are below the label; reals are shared."""
    above = dict(zip(found, _without_shared(_without_splits([w.above for w in found.values()])),
                     strict=True))  # fmt: skip
    if len(set(above.values())) == 1:
        above = dict.fromkeys(found, ())
    rows: list[Row] = []
    places: dict[str, set[Folder]] = {}
    for one, what in found.items():
        if what.label == FAKE:
            generator, *rest = _clean(what.below) or (what.word,)
            rows.append((one, FAKE, generator, "/".join((*above[one], *rest))))
            places.setdefault(generator, set()).add(above[one])
    reals = {one: what for one, what in found.items() if what.label == REAL}
    for generator, own in places.items():
        beside = [one for one in reals if above[one] in own] or list(reals)
        rows += [
            (one, REAL, generator, "/".join((*above[one], *_clean(reals[one].below))))
            for one in beside
        ]
    if not places:  # reals alone
        rows += [
            (one, REAL, what.word, "/".join(_clean(what.below))) for one, what in reals.items()
        ]
    return rows


def _shared(
    tree: Tree, found: dict[Folder, Said], unsaid: list[Folder], reading: Reading
) -> tuple[dict[Folder, Said], list[Folder]]:
    """Add generators' folders beside folders of reals alone, and these reals once for each.

    Returns what is left, with a label and without.
    """
    reals: dict[Folder, list[Folder]] = {}
    for one, what in found.items():
        if what.label == REAL:
            reals.setdefault(what.above, []).append(one)
    pools = set(reals) - {what.above for what in found.values() if what.label == FAKE}
    fakes: dict[tuple[Folder, str], list[Folder]] = {}
    rest = []
    for one in unsaid:
        at = next((n for n in range(len(one) - 1, -1, -1) if one[:n] in pools), None)
        if at is None or one[at].lower() in SPLITS or ASIDE.intersection(map(str.lower, one)):
            rest.append(one)
        else:
            fakes.setdefault((one[:at], one[at]), []).append(one)
    used = {above for above, _ in fakes}
    several = len(used) > 1
    for (above, generator), folders in fakes.items():
        name = "/".join(_clean(above)) * several
        reading.rows += [(one, FAKE, generator, name) for one in folders]
        reading.rows += [(one, REAL, generator, name) for one in reals[above]]
        reading.words[REAL] |= {found[one].word for one in reals[above]}
        reading.words[FAKE].add(generator)
    if used:
        reading.layouts.add(SHARED)
        reading.named = "the folders beside the reals"
    return {one: what for one, what in found.items() if what.above not in used}, rest


def _collection(unsaid: list[Folder], reading: Reading) -> Folder | None:
    """Return the folder that a collection of photographs gives its name, beside others."""
    beside: dict[Folder, set[str]] = {}
    for one in unsaid:
        for depth, name in enumerate(one):
            beside.setdefault(one[:depth], set()).add(name)
    for above, names in sorted(beside.items(), key=lambda one: len(one[0])):
        known = [name for name in sorted(names) if PHOTOGRAPHS.fullmatch(name)]
        if len(known) == 1 and len(names) > 1:
            reading.notes.append(
                f"{known[0]} is taken for the reals, by its name, and all folders beside it for "
                "fakes; --reals DIR says otherwise"
            )
            return (*above, known[0])
    return None


def _by_pool(
    tree: Tree, found: dict[Folder, Said], reals: Folder, reading: Reading
) -> tuple[dict[Folder, Said], list[Folder]]:
    """Add a pool of reals for all generators that have none; what says nothing else is a fake."""
    pool = [one for one in tree if one[: len(reals)] == reals]
    own = {what.above for what in found.values() if what.label == REAL} if found else set()
    generators: dict[str, list[tuple[Folder, str]]] = {}
    rest, kept = [], {}
    for one in tree:
        if one in pool:
            continue
        what = found.get(one)
        if ASIDE.intersection(map(str.lower, one)) or (what is None and not _clean(one)):
            rest.append(one)
        elif what is not None and what.above in own:
            kept[one] = what
        else:
            above = _clean(what.above or what.below) if what else _clean(one)
            generator = above[0] if above else one[-1]
            generators.setdefault(generator, []).append((one, "/".join(above[1:])))
    for generator, folders in generators.items():
        reading.rows += [(one, FAKE, generator, name) for one, name in folders]
        reading.rows += [(one, REAL, generator, "/".join(one[len(reals) :])) for one in pool]
        reading.words[FAKE].add(generator)
    reading.words[REAL].add(reals[-1])
    reading.layouts.add(SHARED)
    reading.named = "the folders beside the reals"
    return kept, rest


def unlabelled(tree: Tree, folders: Iterable[Folder]) -> list[str]:
    """Return a line for each folder whose images have no label."""
    lines = []
    for folder in sorted(folders):
        n = len(tree[folder])
        where = f"{'/'.join(folder)}/" if folder else "the folder itself"
        lines.append(
            f"{counted(n, 'image')} in {where}: no folder above {'them' if n > 1 else 'it'} says "
            "real or fake"
        )
    return lines


def _tell_splits(tree: Tree, reading: Reading) -> None:
    """Say which splits are taken together."""
    counts: dict[int, Counter[str]] = {}
    for one in {row[0] for row in reading.rows}:
        for depth, name in enumerate(one):
            if name.lower() in SPLITS:
                counts.setdefault(depth, Counter())[name] += len(tree[one])
                break
    for _, found in sorted(counts.items()):
        if len(found) > 1:
            told = " and ".join(
                f"{name} ({counted(found[name], 'image')})" for name in sorted(found)
            )
            reading.notes.append(f"{told} are taken together; give the folder of one for it alone")


def _generators_and_classes(root_name: str, folders: list[Folder]) -> list[tuple[str, str]]:
    """Return generator and class of each image from the folders between the root and the label."""
    folders = _without_shared(_without_splits(folders))
    firsts = {names[0].lower() for names in folders if names}
    if firsts <= CLASSES and all(len(names) <= 1 for names in folders):
        return [(root_name, "/".join(names)) for names in folders]
    below: dict[str, list[Folder]] = {}
    for names in folders:
        below.setdefault(names[0] if names else root_name, []).append(names[1:])
    cleaned = {generator: iter(_without_splits(rest)) for generator, rest in below.items()}
    generators = [names[0] if names else root_name for names in folders]
    return [(generator, "/".join(next(cleaned[generator]))) for generator in generators]


def _without_splits(folders: list[Folder]) -> list[Folder]:
    """Drop the first folder of each where all of them are called train, val, test or the like."""
    if folders and all(names and names[0].lower() in SPLITS | CONTAINERS for names in folders):
        return _without_splits([names[1:] for names in folders])
    return folders


def _without_shared(folders: list[Folder]) -> list[Folder]:
    """Drop leading folders that all images share and that name no generator.

    The folder nearest the label names the generator where there is one chain of folders alone, or
    where two or more levels are shared; object classes below it never do.
    """
    levels = zip(*folders, strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    alone = len(set(folders)) == 1
    drop = 0
    if alone or shared > 1:  # what is left must name a generator
        drop = shared - any(len(names) == shared for names in folders)
    while drop > 0 and any(is_class(names[drop]) for names in folders if len(names) > drop):
        drop -= 1
    return [names[max(drop, 0) :] for names in folders]
