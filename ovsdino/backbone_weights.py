"""Backbone weights from a file, a hub or a seed, recognised whatever their naming and precision."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ovsdino.backbone import create_vit
from ovsdino_runtime.errors import CheckpointError

_OWN = "backbone.vit."  # before the backbone's tensors in our checkpoints
_WRAPPERS = ("pretrained.", "module.", "backbone.", "model.")
_HUB_SUFFIXES = (".safetensors", ".pth", ".bin", ".pt")


@dataclass(frozen=True, kw_only=True)
class BackboneWeights:
    """The weights of a backbone under timm's names, position embeddings at their own size.

    Attributes:
        name: timm's architecture name.
        source: a path, `hub:…`, `timm:…` or `random:SEED`.
        tensors: by timm's names.
        fingerprint: SHA-256 over the tensors, see `fingerprint`.
    """

    name: str
    source: str
    tensors: dict[str, Tensor]
    fingerprint: str


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and FP16 values, in the order of the names.

    Values are cast to FP16 first, so that one set of weights is the same in FP32 and FP16.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        half = tensors[name].detach().to("cpu", torch.float16).contiguous()
        digest.update(f"{name}{tuple(half.shape)}".encode())
        digest.update(half.numpy().tobytes())
    return digest.hexdigest()


def load_backbone_weights(name: str, source: str | None = None) -> BackboneWeights:
    """Return the weights of a backbone.

    Args:
        name: timm's architecture name, with or without a weights tag.
        source: a .safetensors or .pth file under DINO's, DINOv2's, DINOv3's or timm's tensor names; a
            checkpoint of ours that holds its backbone, of windows of any size; `hub:OWNER/REPO[/FILE]` on
            the Hugging Face hub; `random:SEED`; None takes timm's own weights for `name` from the hub.

    Raises:
        CheckpointError: no such file or repository, or the tensors are not this backbone's.
    """
    if source is None:
        return _canonical(name, f"timm:{name}", _read(_download_timm(name)))
    if source.startswith("random:"):
        return _random(name, source)
    path = _download(source) if source.startswith("hub:") else Path(source)
    if path.is_dir():
        return _of_checkpoint(name, path)
    return _canonical(name, source, _read(path))


def _of_checkpoint(name: str, folder: Path) -> BackboneWeights:
    """Return the backbone inside a complete checkpoint: a training on small windows goes on on large ones."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        side = int(config["model"]["window_px"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} is neither a weights file nor a checkpoint with a config.json ({error!r})"
        ) from error
    stored = _read(folder / "model.safetensors")
    tensors = {key[len(_OWN) :]: value.float() for key, value in stored.items() if key.startswith(_OWN)}
    with torch.device("meta"):
        native = create_vit(name, side)
    return _checked(name, str(folder), tensors, native)


def _random(name: str, source: str) -> BackboneWeights:
    try:
        seed = int(source.removeprefix("random:"))
    except ValueError as error:
        raise CheckpointError(f"{source!r} names no seed; write for instance random:0") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = timm.get_pretrained_cfg(name.partition(".")[0])
        vit = create_vit(name, size.input_size[-1] if size is not None else 448)
    tensors = {key: value.detach() for key, value in vit.state_dict().items()}
    return BackboneWeights(name=name, source=source, tensors=tensors, fingerprint=fingerprint(tensors))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"no backbone weights at {path}; give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} holds no readable weights ({first}); download it again") from error
    for key in ("model", "state_dict", "teacher"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not all(isinstance(value, Tensor) for value in data.values()):
        raise CheckpointError(f"{path} holds no plain dictionary of tensors, so it is no backbone")
    return data


def _canonical(name: str, source: str, tensors: dict[str, Tensor]) -> BackboneWeights:
    tensors = _strip_wrapper({key: value.float() for key, value in tensors.items()})
    side = _native_px(name, tensors, source)
    with torch.device("meta"):
        native = create_vit(name, side)
    convert = sys.modules[type(native).__module__].checkpoint_filter_fn
    try:
        converted = dict(convert(tensors, native))
    except (LookupError, RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{source} does not fit the backbone {name}: {reason}") from error
    return _checked(name, source, converted, native)


def _checked(name: str, source: str, converted: dict[str, Tensor], native: nn.Module) -> BackboneWeights:
    """Return weights that are exactly a ViT's own.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape.
    """
    wanted = {key: tuple(value.shape) for key, value in native.state_dict().items()}
    missing = sorted(set(wanted) - set(converted))
    extra = sorted(key for key in set(converted) - set(wanted) if not key.startswith(("head.", "mask_token")))
    wrong = sorted(
        f"{key} {tuple(converted[key].shape)} instead of {shape}"
        for key, shape in wanted.items()
        if key in converted and tuple(converted[key].shape) != shape
    )
    for problem, names in (("lacks", missing), ("has no use for", extra), ("differs in", wrong)):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise CheckpointError(
                f"{source} is not a {name}: it {problem} {shown}; give the weights that belong to it"
            )
    kept = {key: converted[key] for key in wanted}
    return BackboneWeights(name=name, source=source, tensors=kept, fingerprint=fingerprint(kept))


def _strip_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the ViT inside a larger model (Depth-Anything's `pretrained.`, DDP's `module.`, …)."""
    for prefix in _WRAPPERS:
        if f"{prefix}patch_embed.proj.weight" in tensors:
            return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    return tensors


def _native_px(name: str, tensors: dict[str, Tensor], source: str) -> int:
    """Return the image side that the file's own position embeddings are made for."""
    kernel = tensors.get("patch_embed.proj.weight")
    if kernel is None:
        raise CheckpointError(f"{source} has no patch_embed.proj.weight, so it is no ViT that timm knows")
    if kernel.ndim != 4 or not kernel.numel():
        raise CheckpointError(
            f"{source} has a patch_embed.proj.weight of shape {tuple(kernel.shape)}, but a ViT's has four "
            "dimensions; give the weights of a ViT"
        )
    patch = int(kernel.shape[-1])
    positions = tensors.get("pos_embed")
    if positions is None:
        return 16 * patch  # rotary: nothing depends on the size
    if positions.ndim != 3 or not positions.numel():
        raise CheckpointError(
            f"{source} has a pos_embed of shape {tuple(positions.shape)}, but a ViT's has three "
            "dimensions; give the weights of a ViT"
        )
    tokens = int(positions.shape[1])
    side = int(tokens**0.5)
    return side * patch


def _download(source: str) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files  # noqa: PLC0415 - slow to load

    parts = source.removeprefix("hub:").split("/")
    if len(parts) < 2 or not all(parts):
        raise CheckpointError(f"{source!r} names no repository; write hub:OWNER/REPO or hub:OWNER/REPO/FILE")
    repo, name = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        if not name:
            files = [file for file in list_repo_files(repo) if file.endswith(_HUB_SUFFIXES)]
            ranked = sorted(files, key=lambda file: (_HUB_SUFFIXES.index(Path(file).suffix), file))
            if not ranked:
                raise CheckpointError(f"{repo} holds no {', '.join(_HUB_SUFFIXES)} file")
            name = ranked[0]
        return Path(hf_hub_download(repo, name))
    except CheckpointError:
        raise
    except Exception as error:  # the hub's client raises many kinds; each means the same here
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot fetch {source} ({first}); check the name and the network, or give a file"
        ) from error


def _download_timm(name: str) -> Path:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise CheckpointError(f"timm has no weights for {name!r}; give a file with --backbone-weights")
    return _download(f"hub:{config.hf_hub_id}/model.safetensors")
