"""Training views: photographs framed, labelled and ready to be batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ovsdino.backbone import FrozenFeatures
from ovsdino.data.augment import Augmentation, Framing, centre_framing, disturbed, random_framing
from ovsdino.data.classes import ClassTable
from ovsdino.data.labels import ClassShares, Labels
from ovsdino.data.samples import Sample, read_sample

# Independent streams of random numbers, so that no two draws of a training are the same numbers.
ORDER_STREAM, VIEW_STREAM, NEGATIVE_STREAM, COLOUR_STREAM = 0, 1, 2, 3

Task = tuple[int, int]  # epoch, index of the sample


@dataclass(frozen=True)
class FrozenView:
    """What the frozen part of the model makes of a view, as it is stored.

    Attributes:
        blocks: [n, h, w, C], the fused blocks of the frozen part; channels last, as a ViT has them.
        tokens: [T, C], the output of the last frozen block.
        teacher: the teacher's features, as its `shape` says; None without teacher.
    """

    blocks: NDArray[np.floating]
    tokens: NDArray[np.floating]
    teacher: NDArray[np.floating] | None


@dataclass(frozen=True)
class View:
    """A square view of a photograph.

    Attributes:
        source: the data set it comes from.
        task: the epoch and the sample it was made for.
        shares: what its classes cover; class numbers are rows of the class table.
        image: uint8 [window, window, 3] RGB; None where `frozen` stands for it.
        teacher_image: the same crop at the teacher's size; None without teacher.
        frozen: cached features, or None.
    """

    source: int
    task: Task
    shares: ClassShares
    image: NDArray[np.uint8] | None = None
    teacher_image: NDArray[np.uint8] | None = None
    frozen: FrozenView | None = None


class ViewDataset(Dataset[View]):
    """Views made from the photographs; the same task always gives the same view.

    All randomness comes from (seed, view, sample), so that workers, processes and resumed runs
    see what one uninterrupted process would. The view is the epoch, or the epoch modulo `views`.
    """

    def __init__(
        self,
        samples: Sequence[tuple[int, Sample]],
        table: ClassTable,
        augmentation: Augmentation | None,
        *,
        seed: int,
        window_px: int,
        mask_px: int,
        teacher_px: int | None = None,
        views: int = 0,
        fresh_colours: bool = False,
        untaught: frozenset[int] = frozenset(),
    ) -> None:
        """Describe the views.

        Args:
            samples: data set and sample of each.
            table: the classes.
            augmentation: how views vary; None for the square in the middle.
            seed: of all randomness.
            window_px: side of the model's view.
            mask_px: cells a side of the masks.
            teacher_px: side of the teacher's view; None without teacher.
            views: different views a photograph; 0 for a new one every epoch.
            fresh_colours: whether colours, blur and noise of these views are new every epoch all the same.
            untaught: data sets that the teacher does not see, by number; their views are new every epoch.
        """
        self.samples = tuple(samples)
        self.table = table
        self.augmentation = augmentation
        self.seed = seed
        self.window_px = window_px
        self.mask_px = mask_px
        self.teacher_px = teacher_px
        self.views = views
        self.fresh_colours = fresh_colours
        self.untaught = untaught

    def __len__(self) -> int:
        return len(self.samples)

    def framing(self, task: Task, labels: Labels) -> Framing:
        """Return what the view of a task shows of a photograph with these labels."""
        if self.augmentation is None:
            return centre_framing(labels.size_hw)
        epoch, index = task
        fixed = self.views and self.samples[index][0] not in self.untaught
        number = epoch % self.views if fixed else epoch
        rng = np.random.default_rng((VIEW_STREAM, self.seed, number, index))
        framing = random_framing(labels, self.augmentation, rng)
        if self.fresh_colours:
            rng = np.random.default_rng((COLOUR_STREAM, self.seed, epoch, index))
            framing = disturbed(framing, self.augmentation, rng)
        return framing

    def __getitem__(self, task: Task) -> View:
        """Return the view of a sample in an epoch.

        Ours: the teacher sees the same crop in its true colours; its features are targets, which
        a change of colour should not move.

        Raises:
            DataError: the photograph or its labels cannot be read.
        """
        source, sample = self.samples[task[1]]
        image, labels = read_sample(sample)
        labels = labels.renumbered(self.table.rows[source])
        framing = self.framing(task, labels)
        view = View(source, task, labels.shares(framing.box, self.mask_px, framing.flip))
        view = replace(view, image=framing.window(image, self.window_px))
        if self.teacher_px is not None and source not in self.untaught:
            view = replace(view, teacher_image=framing.window(image, self.teacher_px, jitter=False))
        return view


@dataclass(frozen=True)
class Batch:
    """Views stacked; K is the largest number of classes asked of one of them.

    Attributes:
        classes: int64 [B, K], rows of the class table.
        queried: bool [B, K]; False where a row only fills up.
        targets: uint8 [B, K, m, m], in 1/255.
        weights: uint8 [B, m, m], in 1/255.
        images: uint8 [B, window, window, 3], or None.
        frozen: cached features instead of images, or None.
        teacher_images: uint8 [B, px, px, 3], or None.
        teacher: the teacher's features [B, *shape], or None.
        sources: the data set of each view, int64 [B].
    """

    classes: Tensor
    queried: Tensor
    targets: Tensor
    weights: Tensor
    images: Tensor | None = None
    frozen: FrozenFeatures | None = None
    teacher_images: Tensor | None = None
    teacher: Tensor | None = None
    sources: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, features in FP32."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        def wide(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True).float()

        frozen = self.frozen and FrozenFeatures(
            tuple(wide(block) for block in self.frozen.blocks), wide(self.frozen.tokens)
        )
        return Batch(
            self.classes.to(device),
            self.queried.to(device),
            self.targets.to(device, non_blocking=True),
            self.weights.to(device, non_blocking=True),
            moved(self.images),
            frozen,
            moved(self.teacher_images),
            None if self.teacher is None else wide(self.teacher),
            self.sources,
        )


class Collate:
    """Stack views and sample the absent classes to ask for.

    Ours: absent classes are drawn among the names of the view's own data set (another's may stand
    in the picture without a label), anew every epoch, from (seed, epoch, sample).
    """

    def __init__(self, table: ClassTable, negatives: int, seed: int) -> None:
        self.rows = [table.rows_of(source) for source in range(len(table.rows))]
        self.negatives = negatives
        self.seed = seed

    def absent(self, view: View) -> NDArray[np.int64]:
        """Return the absent classes asked of a view, ascending int64 [at most `negatives`]."""
        candidates = np.setdiff1d(self.rows[view.source], view.shares.classes)
        rng = np.random.default_rng((NEGATIVE_STREAM, self.seed, *view.task))
        drawn = rng.choice(candidates, size=min(self.negatives, len(candidates)), replace=False)
        return np.sort(drawn)

    def __call__(self, views: list[View]) -> Batch:
        """Return a batch of views."""
        asked = [np.concatenate((view.shares.classes, self.absent(view))) for view in views]
        most = max(1, *(len(classes) for classes in asked))
        side = views[0].shares.weights.shape[-1]
        classes = np.zeros((len(views), most), dtype=np.int64)
        queried = np.zeros((len(views), most), dtype=np.bool_)
        targets = np.zeros((len(views), most, side, side), dtype=np.uint8)
        for place, (view, own) in enumerate(zip(views, asked, strict=True)):
            classes[place, : len(own)] = own
            queried[place, : len(own)] = True
            targets[place, : len(view.shares.classes)] = view.shares.targets
        return Batch(
            torch.from_numpy(classes),
            torch.from_numpy(queried),
            torch.from_numpy(targets),
            torch.from_numpy(np.stack([view.shares.weights for view in views])),
            images=_stacked([view.image for view in views]),
            frozen=_stacked_frozen([view.frozen for view in views]),
            teacher_images=_stacked([view.teacher_image for view in views]),
            teacher=_stacked([view.frozen.teacher if view.frozen else None for view in views]),
            sources=torch.tensor([view.source for view in views]),
        )


def _stacked(arrays: Sequence[NDArray[np.generic] | None]) -> Tensor | None:
    present = [array for array in arrays if array is not None]
    return torch.from_numpy(np.stack(present)) if present else None


def _stacked_frozen(views: Sequence[FrozenView | None]) -> FrozenFeatures | None:
    present = [view for view in views if view is not None]
    if not present or not present[0].tokens.size:
        return None
    blocks = (
        torch.from_numpy(np.stack([view.blocks[place] for view in present])).permute(0, 3, 1, 2)
        for place in range(len(present[0].blocks))
    )
    return FrozenFeatures(tuple(blocks), torch.from_numpy(np.stack([view.tokens for view in present])))
