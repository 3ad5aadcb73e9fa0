"""mIoU on held-out photographs during training: quick, to choose the best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovsdino.data.augment import centre_framing
from ovsdino.data.dataset import Batch, Collate, ViewDataset
from ovsdino.data.leave_out import read_labels
from ovsdino.distributed import Ranks
from ovsdino.objective import Objective
from ovsdino.view_store import CachedViews
from ovsdino_runtime.metrics import mean_iou

_LARGEST_PX = 512  # side to which larger labels are reduced, so that scores of many classes fit


def validate(
    objective: Objective, views: ViewDataset, cached: CachedViews | None, ranks: Ranks, batch: int
) -> dict[str, float | None]:
    """Return the mIoU of each data set, by its number as text, and their mean as "mean"; in [0, 1].

    A data set without any labelled pixel in these squares has no figure: None. It has no part in the mean.

    Ours: one window a photograph, the largest square in its middle, against its labels at their
    own resolution (at most 512 px): a quick relative of the protocol's sliding window, whose figures
    it is not. Among the data set's classes the best wins everywhere; for instance masks only pixels
    under a mask count.

    Args:
        objective: the model and the text embeddings.
        views: the validation photographs, framed in the middle.
        cached: their cached features, or None to compute them.
        ranks: the processes that share the work.
        batch: photographs that go through the model at once.
    """
    device = ranks.device
    table = views.table
    sources = sorted({source for source, _ in views.samples})
    rows = {source: table.rows_of(source) for source in sources}
    counts = {
        source: torch.zeros(len(own) ** 2, dtype=torch.int64, device=device) for source, own in rows.items()
    }
    text = objective.model.map_text(objective.text)
    was_training = objective.training
    objective.eval()
    for indices, features in _embedded(objective, views, cached, ranks, batch):
        for index, embeddings in zip(indices, features, strict=True):
            source = views.samples[index][0]
            own = torch.from_numpy(rows[source]).to(device)
            truth = torch.from_numpy(_truth(views, index, rows[source])).to(device)
            cosines = objective.model.scores(embeddings[None], text[own])
            size = (truth.shape[0], truth.shape[1])
            scores = F.interpolate(cosines, size=size, mode="bilinear", align_corners=False)
            found = scores[0].argmax(dim=0)
            known = truth >= 0
            pairs = truth[known] * len(own) + found[known]
            counts[source] += torch.bincount(pairs, minlength=len(own) ** 2)
    objective.train(was_training)
    results: dict[str, float | None] = {}
    for source, count in counts.items():
        side = len(rows[source])
        miou = mean_iou(ranks.sum(count).cpu().numpy().reshape(side, side))
        results[str(source)] = miou if math.isfinite(miou) else None
    measured = [miou for miou in results.values() if miou is not None]
    return {**results, "mean": sum(measured) / len(measured) if measured else None}


@torch.no_grad()
def _embedded(
    objective: Objective, views: ViewDataset, cached: CachedViews | None, ranks: Ranks, batch: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield this process's samples and their embeddings, FP32 [B, D, h, w]."""
    mine = list(range(ranks.rank, len(views), ranks.world))
    collate = Collate(views.table, 0, views.seed)
    origin = cached if cached is not None else views
    for start in range(0, len(mine), batch):
        indices = mine[start : start + batch]
        items: Batch = collate([origin[(0, index)] for index in indices]).to(ranks.device)
        yield indices, objective.embed(items).float()


def _truth(views: ViewDataset, index: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the labels of the middle square as places in `rows`, int64 [h, w]; -1 where unlabelled."""
    source, sample = views.samples[index]
    labels = read_labels(sample)
    box = centre_framing(labels.size_hw).box
    found = labels.renumbered(views.table.rows[source]).index_map(box)
    if box.side > _LARGEST_PX:
        reduced = cv2.resize(
            found.astype(np.int16), (_LARGEST_PX, _LARGEST_PX), interpolation=cv2.INTER_NEAREST
        )
        found = reduced.astype(np.int64)
    place = np.full(len(views.table.names) + 1, -1, dtype=np.int64)  # the last one serves -1
    place[rows] = np.arange(len(rows))
    located: NDArray[np.int64] = place[found]
    return located
