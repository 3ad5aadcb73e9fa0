"""A graph with its vocabulary inside, for runtimes that know nothing of this project."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ovsdino.model import OVSDINO
from ovsdino_export.baked_contract import InputKind, OutputKind
from ovsdino_export.graph import ImageGraph
from ovsdino_runtime.queries import ClassQuery

INPUT_NAME = "image"


@dataclass(frozen=True, kw_only=True)
class BakedClasses:
    """The classes of a baked graph.

    Attributes:
        queries: labels and prompts, in the order of the output.
        embeddings: float32 [P, D], unit norm, one for each prompt, the first class's first.
    """

    queries: tuple[ClassQuery, ...]
    embeddings: NDArray[np.float32]

    @property
    def prompts(self) -> tuple[int, ...]:
        """How many prompts each class has."""
        return tuple(len(query.prompts) for query in self.queries)


class BakedGraph(nn.Module):
    """Windows to cosines [B, C, h, w] or to labels [B, window, window].

    Labels: every prompt's cosines are upsampled bilinearly to the window, then the class of the best
    prompt is taken. Scores: the best prompt of each class, at the features' own grid.
    """

    classes: Tensor

    def __init__(self, model: OVSDINO, baked: BakedClasses, *, output: OutputKind, input: InputKind) -> None:
        """Put the vocabulary behind the image graph.

        Args:
            model: a trained model.
            baked: classes with embeddings of the model's D.
            output: what comes out.
            input: uint8 [B, window, window, 3] in [0, 255], or float32 [B, 3, window, window] in
                [0, 1]; RGB.

        Raises:
            ExportError: the model is not SAM-free.
        """
        super().__init__()
        self.features = ImageGraph(model, float_input=input == "float-nchw")
        self.output, self.count = output, len(baked.queries)
        self.most = max(baked.prompts)
        ends = list(itertools.accumulate(baked.prompts))
        rows = torch.arange(len(baked.embeddings))
        if output == "scores" and self.most > 1:  # every class the same number of prompts, the last repeated
            starts = [end - count for end, count in zip(ends, baked.prompts, strict=True)]
            rows = torch.tensor(
                [
                    min(first + step, end - 1)
                    for first, end in zip(starts, ends, strict=True)
                    for step in range(self.most)
                ]
            )
        weight = torch.from_numpy(baked.embeddings).float()[rows]
        self.text = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        self.text.weight = nn.Parameter(weight[:, :, None, None].clone(), requires_grad=False)
        self.register_buffer("classes", torch.repeat_interleave(torch.tensor(baked.prompts)).to(torch.int32))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return cosines, float32 [B, C, h, w], or labels, int32 [B, window, window]."""
        cosines: Tensor = self.text(self.features(image))
        if self.output == "scores":
            return cosines if self.most == 1 else self._best(cosines)
        side = self.features.window_px
        upsampled = F.interpolate(cosines, size=(side, side), mode="bilinear", align_corners=False)
        best = upsampled.argmax(dim=1)
        return best.to(torch.int32) if self.most == 1 else self.classes[best]

    def _best(self, cosines: Tensor) -> Tensor:
        rows, columns = self.features.grid_hw
        return cosines.reshape(-1, self.count, self.most, rows, columns).amax(dim=2)


def example_input(window_px: int, kind: InputKind) -> Tensor:
    """Return one input of zeros, to trace with."""
    if kind == "uint8-nhwc":
        return torch.zeros(1, window_px, window_px, 3, dtype=torch.uint8)
    return torch.zeros(1, 3, window_px, window_px)
