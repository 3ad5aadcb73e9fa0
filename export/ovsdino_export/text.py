"""CLIP's text tower as ONNX, with its tokenizer as data: then a bundle takes any word."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ovsdino.text import TextModel, load_text_model, text_model_name
from ovsdino.text_tower import TextTower
from ovsdino_export.large_graph import EXTERNAL_DATA_BYTES
from ovsdino_export.operators import check_file
from ovsdino_export.trace import save, trace
from ovsdino_export.verify import require
from ovsdino_runtime.backends.ort import open_session
from ovsdino_runtime.bundle import TEXT_GRAPH, TOKENIZER
from ovsdino_runtime.errors import ExportError, ParityError
from ovsdino_runtime.metrics import GATES
from ovsdino_runtime.tokenizer import Tokenizer
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES

_INPUT, _OUTPUT = "input_ids", "embeddings"
_SHORTEST = 3  # the two marks and one token
_NAMES = ("car", "Traffic_Sign", "potted plant", "SKY", "naïve café-goer's 42 “things” &amp; 😀!")
_AT_ONCE = 32  # prompts that PyTorch encodes together


def export_text_encoder(
    folder: Path,
    *,
    model: str,
    pretrained: str,
    clip: nn.Module | None = None,
    external_data_bytes: int = EXTERNAL_DATA_BYTES,
) -> dict[str, float]:
    """Write text.onnx and tokenizer.json and return how they agree with open_clip.

    text.onnx: `input_ids` int64 [batch, tokens] -> `embeddings` float32 [batch, D], L2-normalised;
    both dimensions of the input are dynamic, so prompts need no padding beyond the longest.

    Args:
        folder: where; nothing is written there unless both files agree.
        model: open_clip's architecture name.
        pretrained: open_clip's name of the weights, or a weights file.
        clip: the loaded model, if there is one already.
        external_data_bytes: weights of more than this go into text.onnx.data.

    Raises:
        CheckpointError: the model cannot be loaded.
        ExportError: its text side is not OpenAI's transformer or tokenizer.
        ParityError: ONNX Runtime or our tokenizer gives something else than open_clip.
    """
    loaded = load_text_model(model, pretrained) if clip is None else TextModel.of(clip, model)
    try:
        tower = TextTower(loaded.clip).eval()
    except ValueError as error:
        raise ExportError(
            f"cannot export {text_model_name(model, pretrained)}: {error}; leave out --text-encoder"
        ) from error
    tokenizer = tokenizer_of(loaded.tokenize)
    if tokenizer.context_length != tower.context_length:
        raise ExportError(
            f"the tokenizer of {model} is for {tokenizer.context_length} tokens, its text side for "
            f"{tower.context_length}; leave out --text-encoder"
        )
    graph = trace(
        tower,
        torch.from_numpy(tokenizer.batch(["a photo of a potted plant."])),
        input_name=_INPUT,
        output_name=_OUTPUT,
        metadata={"model": text_model_name(model, pretrained)},
        dynamic={1: torch.export.Dim("tokens", min=_SHORTEST, max=tower.context_length)},
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".text.") as name:
        staged = Path(name)
        save(graph, staged / TEXT_GRAPH, external_data_bytes)
        check_file(staged / TEXT_GRAPH)
        tokenizer.save(staged / TOKENIZER)
        parity = _parity(staged, loaded)
        for path in sorted(staged.iterdir()):
            path.replace(folder / path.name)
    return parity


def tokenizer_of(reference: Any) -> Tokenizer:
    """Return an open_clip tokenizer as ours.

    Raises:
        ExportError: it is none of OpenAI's kind.
    """
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415

    if not isinstance(reference, SimpleTokenizer) or len(reference.all_special_ids) != 2:
        raise ExportError(
            f"the tokenizer {type(reference).__name__} is not OpenAI's byte-pair tokenizer; "
            "leave out --text-encoder"
        )
    start, end = (reference.decoder[number] for number in reference.all_special_ids)
    return Tokenizer(list(reference.bpe_ranks), context_length=reference.context_length, start=start, end=end)


def _parity(folder: Path, loaded: TextModel) -> dict[str, float]:
    """Return the agreement of the files in a folder with open_clip's own padded computation.

    Compared are real prompts, as one batch, and random ids of every length there can be, one by one.
    """
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    texts = [template.replace("{}", name) for name in _NAMES for template in IMAGENET_TEMPLATES[::8]]
    texts.append("a very long sentence " * tokenizer.context_length)
    prompts = tokenizer.batch(texts)
    if not np.array_equal(prompts, loaded.tokenize(texts).numpy()[:, : prompts.shape[1]]):
        raise ParityError(
            f"{TOKENIZER} gives other ids than open_clip; report it with the version of open_clip"
        )
    short = prompts[:-1, : int(np.flatnonzero(prompts[:-1].any(axis=0)).max()) + 1]
    batches = [short, prompts[-1:], *_every_length(tokenizer)]
    session = open_session(folder / TEXT_GRAPH, "cpu")
    found = np.concatenate([session.run([_OUTPUT], {_INPUT: ids})[0] for ids in batches])
    cosines = (found.astype(np.float64) * _reference(loaded, batches, tokenizer.context_length)).sum(axis=1)
    figures = {
        "cosine_mean": float(cosines.mean()),
        "cosine_p1": float(np.percentile(cosines, 1)),
        "cosine_min": float(cosines.min()),
    }
    require(TEXT_GRAPH, _failures(figures))
    return figures


def _failures(figures: Mapping[str, float]) -> list[str]:
    gate = GATES["fp32"]
    return [
        f"{name} over prompts is {figures[name]:.6f}, the gate is {least}"
        for name, least in (("cosine_mean", gate.cosine_mean), ("cosine_p1", gate.cosine_p1))
        if not figures[name] >= least  # so that NaN fails
    ]


def _every_length(tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    """Return random ids [1, T] between the marks, for every T there can be."""
    random = np.random.default_rng(0)
    start, end = tokenizer.batch([""])[0]
    lengths = range(_SHORTEST, tokenizer.context_length + 1)
    return [np.array([[start, *random.integers(1, start, length - 2), end]]) for length in lengths]


@torch.inference_mode()
def _reference(
    loaded: TextModel, batches: list[NDArray[np.int64]], context_length: int
) -> NDArray[np.float64]:
    """Return what open_clip itself gives for ids padded to the context, L2-normalised, float64 [N, D]."""
    padded = np.concatenate([np.pad(ids, ((0, 0), (0, context_length - ids.shape[1]))) for ids in batches])
    encode: Any = loaded.clip.encode_text
    parts = [encode(part).double() for part in torch.split(torch.from_numpy(padded), _AT_ONCE)]
    vectors: NDArray[np.float64] = torch.nn.functional.normalize(torch.cat(parts), dim=1).numpy()
    return vectors
