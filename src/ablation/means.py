"""The mean of every feature map over a reference set: what may stand in a map's place."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data import Batch
from ..detectors import Detector
from ..detectors.units import by_map, token_units
from ..errors import UserError
from ..files import whole
from ..records import FAKE, REAL, ImageSet
from ..sweep import RGB, How, Look, Rows, Seen, SignedSum, sweep
from .sites import Chain

KINDS = {"real": REAL, "fake": FAKE}
SITES = ("conv", "activation")  # behind BatchNorm the mean is that of the convolution, moved


@dataclass(frozen=True, eq=False)
class Means:
    """Means over images and space of every feature map, by kind of image.

    of: (site, kind) → float64 (D,), all layers' numbers one after another; site 'conv' or
        'activation', kind 'real' or 'fake'. deviation: over images, of the map's mean, (D,).
    parts: layer → (width, d), d numbers a map: 1, or a head's vector.
    counts: images of each kind; facts: for manifests.
    """

    of: Mapping[tuple[str, str], np.ndarray]
    deviation: np.ndarray
    parts: Mapping[str, tuple[int, int]]
    counts: Mapping[str, int]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def numbers(self, site: str, kinds: tuple[str, ...]) -> np.ndarray:
        """Return the mean (D,) over the images of these kinds.

        Raises:
            UserError: there are no such images, or a file's means are not of this site.
        """
        held = {kind: self.counts[kind] for kind in kinds if self.counts.get(kind)}
        if not held or any((site, kind) not in self.of for kind in held):
            raise UserError(
                f"no mean over {' and '.join(kinds)}s at site {site}: the reference holds "
                f"{', '.join(f'{n} {kind}s' for kind, n in self.counts.items())} and means of "
                f"{', '.join(sorted({one[0] for one in self.of}))}; give a set with --reference"
            )
        total = sum(n * self.of[site, kind] for kind, n in held.items())
        return np.asarray(total / sum(held.values()))

    def by_layer(self, numbers: np.ndarray) -> dict[str, Tensor]:
        """Return numbers (D,) as float64 (width, d) by layer."""
        sizes = [width * d for width, d in self.parts.values()]
        pieces = np.split(np.asarray(numbers), np.cumsum(sizes)[:-1])
        return {
            layer: torch.from_numpy(piece.copy()).reshape(shape)
            for (layer, shape), piece in zip(self.parts.items(), pieces, strict=True)
        }

    def save(self, path: Path) -> None:
        """Write the means over reals at the convolution: layer, channel, part, mean_real."""
        rows = [
            (layer, channel, part)
            for layer, (width, d) in self.parts.items()
            for channel in range(width)
            for part in range(d)
        ]
        table = pd.DataFrame(rows, columns=["layer", "channel", "part"])
        table = table.astype({"layer": "category", "channel": "int32", "part": "int16"})
        table["mean_real"] = self.numbers("conv", ("real",)).astype(np.float32)
        table.attrs = {"reals": self.counts["real"]}
        with whole(Path(path)) as target:
            # Means are all different: a dictionary of them would be a second column of them.
            table.to_parquet(target, index=False, compression="zstd", use_dictionary=["layer"],
                             column_encoding={"mean_real": "BYTE_STREAM_SPLIT"})  # fmt: skip


def load_means(path: Path, detector: Detector) -> Means:
    """Read means over reals that :meth:`Means.save` wrote.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    try:
        table = pd.read_parquet(path)
        reals = int(table.attrs.get("reals", 1))
        groups = {str(k): v for k, v in table.groupby("layer", sort=False, observed=True)}
        parts = {name: (int(v["channel"].max()) + 1, int(v["part"].max()) + 1)
                 for name, v in groups.items()}  # fmt: skip
        numbers = table["mean_real"].to_numpy(dtype=np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no means can be read from it ({error})") from None
    if parts != _parts(detector):
        raise UserError(f"{path}: the means are of another network than {detector.name}")
    return Means({("conv", "real"): numbers}, np.full(len(numbers), np.nan), parts, {"real": reals},
                 {"reference": Path(path).name, "reference_is": Path(path).name})  # fmt: skip


def means(
    detector: Detector,
    images: ImageSet,
    chains: Mapping[str, Chain] | None = None,
    **how: Unpack[How],
) -> Means:
    """Return the means of all feature maps over ``images``, in one pass.

    chains: what follows each convolution; then the means behind its activation are taken too.

    Raises:
        UserError: see :func:`forensift.sweep`.
    """
    look = MeansLook(detector, chains)
    sweep(images, [look], what="means", **how)
    return look.statistic.means(_parts(detector), {"reference": images.hash()})


class MeansStatistic:
    """Sums over images of each map's mean, by kind of image; mergeable, exact, O(maps) memory."""

    def __init__(self, size: int, sites: tuple[str, ...]) -> None:
        self.size, self.sites = size, sites
        self.sums = {(s, kind): SignedSum((size,)) for s in sites for kind in KINDS}
        self.squares = SignedSum((size,), 2.0**40)

    def empty(self) -> MeansStatistic:
        """Return a statistic of the same kind that has seen nothing."""
        return MeansStatistic(self.size, self.sites)

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch: for each site, (N, D)."""
        for (site, kind), total in self.sums.items():
            total.add(rows[site][batch.labels == KINDS[kind]])
        self.squares.add(rows["conv"] ** 2)

    def merge(self, other: MeansStatistic) -> None:
        """Take in what ``other`` has seen."""
        for key, total in self.sums.items():
            total.merge(other.sums[key])
        self.squares.merge(other.squares)

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums as plain arrays."""
        found = {"/".join(key): one.state() for key, one in self.sums.items()}
        counts = [self.sums["conv", kind].count for kind in KINDS]
        return {**found, "squares": self.squares.state(), "counts": np.array(counts)}

    def from_state(self, state: Mapping[str, np.ndarray]) -> MeansStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        counts = dict(zip(KINDS, map(int, state["counts"]), strict=True))
        for key, one in self.sums.items():
            found.sums[key] = one.from_state(state["/".join(key)], counts[key[1]])
        found.squares = self.squares.from_state(state["squares"], sum(counts.values()))
        return found

    def result(self) -> dict[tuple[str, str], np.ndarray]:
        """Return the means by site and kind, where there are images."""
        return {key: one.value() / one.count for key, one in self.sums.items() if one.count}

    def means(self, parts: Mapping[str, tuple[int, int]], facts: Mapping[str, Any]) -> Means:
        """Return the record of them."""
        counts = {kind: self.sums["conv", kind].count for kind in KINDS}
        n = max(1, sum(counts.values()))
        mean = sum(self.sums["conv", kind].value() for kind in KINDS) / n
        variance = np.maximum(self.squares.value() / n - mean**2, 0)
        return Means(self.result(), np.sqrt(variance), parts, counts, facts)


class MeansLook(Look):
    """The mean over space of every feature map."""

    statistic: MeansStatistic

    def __init__(self, detector: Detector, chains: Mapping[str, Chain] | None = None) -> None:
        self.chains = chains
        sites = SITES if chains is not None else SITES[:1]
        size = sum(width * d for width, d in _parts(detector).values())
        super().__init__(detector, MeansStatistic(size, sites), facts={"sites": sites})

    def watch(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Return a block that keeps the means of each layer's maps."""
        return _caught(self.detector.network, list(self.detector.layers), self.chains)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the means (N, D) at each site, float64."""
        caught: Mapping[Any, np.ndarray] = seen[RGB].caught
        return {
            site: np.concatenate([caught[site, one] for one in self.detector.layers], axis=1)
            for site in self.statistic.sites
        }


@contextmanager
def _caught(network: nn.Module, layers: list[str], chains: Mapping[str, Chain] | None) -> Any:
    """Yield (site, layer) → (N, width · d) of the last forward pass."""
    found: dict[tuple[str, str], np.ndarray] = {}
    modules, units = dict(network.named_modules()), token_units(network)
    images = [1]
    places: dict[tuple[str, str], int] = {}

    def begun(module: nn.Module, args: Any) -> None:
        images[0] = len(args[0])
        found.clear()
        places.clear()

    def add(key: tuple[str, str], maps: Tensor) -> None:
        """Take one call of a module into the mean over its calls, each place alike."""
        before, n = places.get(key, 0), maps[0].numel()
        places[key] = before + n
        own = _means(maps, images[0])
        found[key] = (found[key] * before + own * n) / (before + n) if before else own

    def keep(layer: str, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        unit, chain = units.get(layer), (chains or {}).get(layer)
        maps = by_map(tensor, unit)
        add(("conv", layer), maps)
        if chains is not None:
            behind = chain.behind(tensor, "activation") if chain else tensor
            maps = by_map(behind, unit)
            add(("activation", layer), maps)

    handles = [network.register_forward_pre_hook(begun)]
    for layer in layers:
        unit = units.get(layer)
        if unit is not None and unit.inputs:

            def before(module: nn.Module, args: Any, layer: str = layer) -> None:
                keep(layer, args[0])

            handles.append(modules[layer].register_forward_pre_hook(before))
        else:

            def after(module: nn.Module, args: Any, output: Any, layer: str = layer) -> None:
                keep(layer, output)

            handles.append(modules[layer].register_forward_hook(after))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _means(maps: Tensor, images: int) -> np.ndarray:
    """Return (N, width · d) of maps (width, N', …, d), N' a multiple of N."""
    width, d = maps.shape[0], maps.shape[-1]
    apart = maps.detach().double().reshape(width, images, -1, d).mean(dim=2)
    return apart.movedim(0, 1).reshape(images, width * d).cpu().numpy()


def _parts(detector: Detector) -> dict[str, tuple[int, int]]:
    units, modules = token_units(detector.network), dict(detector.network.named_modules())
    found = {}
    for layer, width in detector.layers.items():
        unit: Any = units.get(layer)
        linear: Any = modules[layer]
        heads = unit is not None and unit.kind == "heads"
        found[layer] = (width, linear.in_features // width if heads else 1)
    return found
