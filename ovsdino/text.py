"""Class names to text embeddings: ready-made vectors, or open_clip with prompt templates."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from ovsdino.ready_text import read_embedding_sets
from ovsdino.text_tower import TextTower
from ovsdino_runtime.embeddings import EmbeddingSet, EmbeddingTable, Vectors
from ovsdino_runtime.errors import CheckpointError, VocabularyError
from ovsdino_runtime.files import sha256_of, user_cache
from ovsdino_runtime.text import ensemble, prompts_of
from ovsdino_runtime.text_cache import TextCache
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES, related_sets, vocabulary

__all__ = [
    "EXTRA",
    "MODEL",
    "PRETRAINED",
    "TextModel",
    "embedding_sets",
    "encode_names",
    "load_text_model",
    "read_embedding_sets",
    "text_model_name",
]

MODEL, PRETRAINED = "ViT-B-16", "openai"  # sec. 5.1
EXTRA = "extra"  # the set of names that belong to no vocabulary


@dataclass(frozen=True, kw_only=True)
class TextModel:
    """An open_clip model's text side.

    Attributes:
        clip: the whole model, in eval mode, FP32, on the CPU.
        tokenize: texts to ids, int64 [n, context length].
    """

    clip: nn.Module
    tokenize: Callable[[list[str]], Tensor]

    @classmethod
    def of(cls, clip: nn.Module, model: str = MODEL) -> TextModel:
        """Return a loaded model with the tokenizer of its architecture."""
        import open_clip  # noqa: PLC0415

        return cls(clip=clip.eval(), tokenize=open_clip.get_tokenizer(model))


def text_model_name(model: str | None = None, pretrained: str | None = None) -> str:
    """Return what checkpoints and bundles call a text encoder; None is the paper's.

    A file of weights is called by its name and hash, the same wherever it lies.
    """
    weights = pretrained or PRETRAINED
    path = Path(weights)
    if path.is_file():
        state = path.stat()
        weights = f"{path.name} {_digest(path, state.st_size, state.st_mtime_ns)}"
    return f"open_clip {model or MODEL} {weights}"


@cache
def _digest(path: Path, size: int, changed_ns: int) -> str:
    """Return the beginning of a file's SHA-256; size and time tell whether it is still the same file."""
    return f"sha256:{sha256_of(path)[:16]}"


def load_text_model(model: str = MODEL, pretrained: str = PRETRAINED) -> TextModel:
    """Return an open_clip model, from its cache or the network.

    Args:
        model: open_clip's architecture name.
        pretrained: open_clip's name of the weights, or a weights file. A file does not tell which GELU
            it was trained with: for OpenAI's weights name the architecture with `-quickgelu`.

    Raises:
        CheckpointError: open_clip knows no such model or weights, or cannot get them.
    """
    import open_clip  # noqa: PLC0415  (seconds, and ready-made vectors do without it)

    try:
        with _quiet():
            settings = open_clip.get_pretrained_cfg(model, pretrained) or {}
            # OpenAI's weights were trained with another GELU than the architecture's default;
            # left alone, open_clip only warns and computes other embeddings.
            clip = open_clip.create_model(
                model,
                pretrained=pretrained,
                force_quick_gelu=bool(settings.get("quick_gelu", False)),
                require_pretrained=True,
            )
            return TextModel.of(clip, model)
    except Exception as error:  # open_clip and the hub raise all kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"cannot load {text_model_name(model, pretrained)} ({reason}); connect to the network once, "
            f"give a weights file (OpenAI's with --text-model {MODEL}-quickgelu), or ready-made vectors: "
            "--text-embeddings FILE.npz --text-names FILE.json"
        ) from error


def encode_names(
    names: Sequence[str],
    *,
    model: str = MODEL,
    pretrained: str = PRETRAINED,
    templates: Sequence[str] = IMAGENET_TEMPLATES,
    cache_folder: Path | None = None,
    text_model: TextModel | None = None,
) -> NDArray[np.float32]:
    """Return the prompt-ensembled embeddings of names, float32 [n, D], unit norm (docs/protocol.md).

    Args:
        names: as the text encoder should read them.
        model: open_clip's architecture name.
        pretrained: open_clip's name of the weights, or a weights file.
        templates: prompts with one `{}` each.
        cache_folder: where embeddings are kept between runs; None is the user's cache, or no cache
            with a `text_model` of one's own.
        text_model: a loaded model in place of the named one.

    Raises:
        CheckpointError: the model is needed and cannot be loaded, or gives no finite embedding.
    """
    folder = cache_folder if cache_folder is not None or text_model is not None else user_cache()
    weights = sha256_of(Path(pretrained)) if Path(pretrained).is_file() else pretrained
    cache = TextCache(folder, "open_clip", model, weights, *templates)
    found = {name: vector for name in names if (vector := cache.get(name)) is not None}
    missing = [name for name in dict.fromkeys(names) if name not in found]
    if missing:
        loaded = text_model or load_text_model(model, pretrained)
        encode = _encoder(loaded)
        for name in tqdm(missing, "text encoder", unit="name", delay=1, leave=False, disable=None):
            try:
                found[name] = ensemble(encode(prompts_of(name, templates)))
            except ValueError as error:
                raise CheckpointError(f"{text_model_name(model, pretrained)}: {error}") from error
            cache.put(name, found[name])
    return np.stack([found[name] for name in names]) if names else np.zeros((0, 0), np.float32)


def _encoder(loaded: TextModel) -> Callable[[list[str]], Vectors]:
    """Return what turns prompts into vectors [n, D]; without their padding where the model allows."""
    try:
        tower: TextTower | None = TextTower(loaded.clip).eval()
    except ValueError:
        tower = None

    @torch.inference_mode()
    def encode(prompts: list[str]) -> Vectors:
        ids = loaded.tokenize(prompts)
        if tower is None:
            vectors: Tensor = loaded.clip.encode_text(ids)  # type: ignore[operator]
        else:
            longest = int((ids != 0).any(dim=0).nonzero().max()) + 1  # 0 may stand inside a prompt too
            vectors = tower(ids[:, :longest])
        return vectors.float().numpy()

    return encode


def embedding_sets(
    text_embeddings: Path | None,
    text_names: Path | None,
    vocabularies: Sequence[str],
    extra_names: Sequence[str] = (),
    *,
    model: str = MODEL,
    pretrained: str = PRETRAINED,
    cache_folder: Path | None = None,
    text_model: TextModel | None = None,
) -> dict[str, EmbeddingSet]:
    """Return the embeddings of vocabularies by canonical name, and of other names as the set "extra".

    Args:
        text_embeddings: ready-made vectors, see `read_embedding_sets`; None asks open_clip.
        text_names: their names.
        vocabularies: which to return; with ready-made vectors, none means all there are. One without
            ready-made vectors of its own is put together from the others'.
        extra_names: names beside the vocabularies'.
        model: open_clip's architecture name.
        pretrained: open_clip's name of the weights, or a weights file.
        cache_folder: see `encode_names`.
        text_model: see `encode_names`.

    Raises:
        CheckpointError: the vectors cannot be read, or the text encoder cannot be loaded.
        VocabularyError: a vocabulary does not exist, the ready-made vectors lack a name, or nothing
            is asked for.
    """
    wanted = [vocabulary(name) for name in vocabularies]
    prompts = {
        item.name: tuple(dict.fromkeys(prompt for query in item.queries for prompt in query.prompts))
        for item in wanted
    }
    if extra_names:
        prompts[EXTRA] = tuple(dict.fromkeys(extra_names))
    if (text_embeddings is None) != (text_names is None):
        raise VocabularyError("--text-embeddings FILE.npz and --text-names FILE.json go together; give both")
    if text_embeddings is not None and text_names is not None:
        ready = read_embedding_sets(text_embeddings, text_names)
        chosen = _chosen(ready, prompts, text_names)
        return {**ready, **chosen} if not wanted else chosen
    if not prompts:
        raise VocabularyError("no vocabulary and no class is named, so there is nothing to embed; name one")
    names = list(dict.fromkeys(name for listed in prompts.values() for name in listed))
    vectors = encode_names(
        names, model=model, pretrained=pretrained, cache_folder=cache_folder, text_model=text_model
    )
    rows = {name: row for row, name in enumerate(names)}
    return {
        key: EmbeddingSet(names=listed, embeddings=vectors[[rows[name] for name in listed]])
        for key, listed in prompts.items()
    }


def _chosen(
    ready: Mapping[str, EmbeddingSet], prompts: Mapping[str, tuple[str, ...]], source: Path
) -> dict[str, EmbeddingSet]:
    table = EmbeddingTable.from_sets(ready, trained=())
    chosen = {}
    for key, names in prompts.items():
        own = next((ready[name] for name in related_sets(key) if name in ready), None)
        if own is not None and set(names) <= set(own.names):
            rows = [own.names.index(name) for name in names]
            chosen[key] = EmbeddingSet(names=names, embeddings=own.embeddings[rows])
            continue
        lacking = sorted(set(names) - set(table.names))
        if lacking:
            raise VocabularyError(
                f"{source} has no {lacking[0]!r} ({len(lacking)} of {len(names)} names of {key} miss); "
                "leave --text-embeddings out to ask open_clip, or name other classes"
            )
        chosen[key] = EmbeddingSet(names=names, embeddings=table.lookup(names))
    return chosen


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip and the hub from logging what is raised, or concerns the unused image side."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
