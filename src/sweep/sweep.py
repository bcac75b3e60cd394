"""One pass over an image set: each image is decoded once and feeds every statistic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..data import Batch, batches
from ..records import ImageSet, Skipped
from .partials import Partials
from .statistics import Statistic

if TYPE_CHECKING:
    from ..data import Preset

Progress = Callable[[int], None]  # called with the number of images just done

SHARD = 256  # images between two partial results


def sweep(
    images: ImageSet,
    preset: Preset,
    observe: Callable[[Batch, ImageSet], Any],
    statistics: Sequence[Statistic],
    *,
    batch_size: int = 16,
    seed: int = 0,
    shard_size: int = SHARD,
    partials: Partials | None = None,
    progress: Progress | None = None,
    skipped: list[Skipped] | None = None,
) -> None:
    """Go through ``images`` once and leave in each of ``statistics`` what they showed.

    observe: turns a decoded batch into what the statistics take (logits, relevance …); it is
        called once a batch with the images that ``batch.indices`` points into.
    statistics: updated in place. They see fixed shards of ``shard_size`` images in the set's order.
    batch_size, seed: as for :func:`forensift.data.batches`; randomness hangs on the image's id.
    partials: where finished shards are kept, so that a killed run can go on.
    progress: called with the number of images just done, or found done in ``partials``.
    skipped: gets the images that could not be read, in the set's order of shards.

    The merge is exact, so results do not depend on shards. They depend on ``batch_size`` only as
    far as the network's own float32 rounding does (about 1e-6 of a relevance).
    """
    skipped = skipped if skipped is not None else []
    for number, first in enumerate(range(0, len(images), shard_size)):
        shard = ImageSet(images.root, images.entries[first : first + shard_size], images.layout)
        pieces = [statistic.empty() for statistic in statistics]
        kept = partials.read(number) if partials else None
        missed: list[Skipped] = []
        if kept is not None and len(kept[0]) == len(pieces):
            states, missed = kept
            pieces = [p.from_state(state) for p, state in zip(pieces, states, strict=True)]
            if progress:
                progress(len(shard) - len(missed))
        else:
            for batch in batches(shard, preset, batch_size, seed=seed, skipped=missed):
                observation = observe(batch, shard)
                for piece in pieces:
                    piece.update(observation)
                if progress:
                    progress(len(batch.indices))
            if partials:
                partials.write(number, [piece.state() for piece in pieces], missed)
        for statistic, piece in zip(statistics, pieces, strict=True):
            statistic.merge(piece)
        skipped.extend(missed)
