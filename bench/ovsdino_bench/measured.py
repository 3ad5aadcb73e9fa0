"""What is measured: a bundle, the checkpoint it was exported from, or a checkpoint alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ovsdino_bench.forms import FORMS, engine_hashes
from ovsdino_bench.replay import ReplayBackend
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.selection import DeviceChoice, PrecisionChoice, choose_backend
from ovsdino_runtime.bundle import VOCABULARY, Bundle
from ovsdino_runtime.errors import BackendUnavailable
from ovsdino_runtime.extras import needing
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.manifest import FileEntry, Manifest
from ovsdino_runtime.segmenter import Segmenter

if TYPE_CHECKING:
    from ovsdino.teacher import SamTeacher
    from ovsdino.torch_backend import TorchBackend


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured, ready to run.

    Attributes:
        segmenters: one a backend; PyTorch first.
        manifest: the bundle's, or made from the checkpoint.
        checkpoint_sha256: of the checkpoint's weights; None without one.
        note: what a person should know about the choice of the backend, or None.
        reference: what stands for PyTorch, where it was recorded elsewhere.
    """

    segmenters: tuple[Segmenter, ...]
    manifest: Manifest
    checkpoint_sha256: str | None
    note: str | None
    reference: ReplayBackend | None = None

    @property
    def backends(self) -> tuple[str, ...]:
        """What runs, in order."""
        return tuple(segmenter.backend.name for segmenter in self.segmenters)

    @property
    def engines(self) -> dict[str, str]:
        """SHA-256 of the TensorRT engines that run, by backend: two of one graph give other features."""
        return engine_hashes({item.backend.name: item.backend for item in self.segmenters})


@dataclass(frozen=True, kw_only=True)
class CheckpointSource:
    """A checkpoint, and what it needs.

    Attributes:
        path: its folder.
        backbone_weights: where its backbone's weights are, see `load_checkpoint`.
        text_embeddings: ready-made text vectors (.npz), for a checkpoint without a bundle.
        text_names: their names (.json).
        sam: the SAM whose features replace the encoder's (tables 2 and 4), see `load_sam`; None for the
            model's own.
    """

    path: Path
    backbone_weights: str | None = None
    text_embeddings: Path | None = None
    text_names: Path | None = None
    sam: str | None = None


def open_measured(
    bundle: Path | None,
    checkpoint: CheckpointSource | None,
    device: DeviceChoice,
    precision: PrecisionChoice = "auto",
    reference: Path | None = None,
) -> Measured:
    """Open what is measured.

    Args:
        bundle: a bundle, whose geometry and text embeddings serve the checkpoint too.
        checkpoint: runs in PyTorch: on CUDA with `cuda`, else on the CPU.
        device: where the bundle runs.
        precision: what the bundle computes in, as in `choose_backend`; but FP16 on the CPU, which
            the runtime refuses, is emulated if both are asked for. PyTorch computes in FP32.
        reference: what `ovsdino-bench reference` recorded of the bundle's checkpoint; stands for it.

    Raises:
        BundleError, CheckpointError, ExportError: one of them cannot be used, or they are of two models.
        DataError: the reference cannot be used, or is of another model.
        BackendUnavailable: the device, the precision, PyTorch or another package is not there.
        ValueError: neither is given.
    """
    if bundle is not None:
        opened = Bundle.open(bundle)
        replayed = None if reference is None else ReplayBackend(reference, opened.manifest)
        torch_side = [] if replayed is None else [Segmenter(opened, replayed)]
        if checkpoint is not None:
            torch_side.append(Segmenter(opened, _torch_backend(checkpoint, device, opened)))
        backend, note = _of_bundle(opened, device, precision)
        return Measured(
            segmenters=(*torch_side, Segmenter(opened, backend)),
            manifest=opened.manifest,
            checkpoint_sha256=None if checkpoint is None else weights_sha256(checkpoint.path),
            note=note,
            reference=replayed,
        )
    if checkpoint is None:
        raise ValueError("neither a bundle nor a checkpoint")
    if device == "tensorrt":
        raise BackendUnavailable(
            "device 'tensorrt' was asked for, but a checkpoint alone runs in PyTorch; name its --bundle, or "
            "use --device cpu or cuda"
        )
    if precision in ("fp16", "int8"):
        raise BackendUnavailable(
            f"precision {precision!r} was asked for, but a checkpoint alone runs in PyTorch, in FP32; "
            "name its --bundle, or leave out --precision"
        )
    with (
        needing("bench,export,cpu", "measuring a checkpoint without a bundle"),
        _alone(checkpoint, device) as (made, torch_backend),
    ):
        return Measured(
            segmenters=(Segmenter(made, torch_backend),),
            manifest=made.manifest,
            checkpoint_sha256=weights_sha256(checkpoint.path),
            note=None,
        )


def _of_bundle(
    bundle: Bundle, device: DeviceChoice, precision: PrecisionChoice
) -> tuple[Backend, str | None]:
    """Return what runs a bundle, and what a person should know about the choice."""
    if (device, precision) != ("cpu", "fp16"):
        return choose_backend(bundle, device, precision)
    form = FORMS["onnx-fp16-emulated"]
    return form.open(bundle), f"FP16 is emulated, which is slow: {form.what}"


@contextmanager
def _alone(checkpoint: CheckpointSource, device: DeviceChoice) -> Iterator[tuple[Bundle, TorchBackend]]:
    """Yield the torch-free half of a bundle, made from a checkpoint, and its model; no graph is exported."""
    from ovsdino.torch_backend import TorchBackend  # noqa: PLC0415 - torch is optional
    from ovsdino_export.class_vectors import TextSource, embedding_table, text_map_of  # noqa: PLC0415
    from ovsdino_export.pipeline import load_trained, manifest_of  # noqa: PLC0415

    model, info = load_trained(checkpoint.path, checkpoint.backbone_weights)
    source = TextSource(embeddings=checkpoint.text_embeddings, names=checkpoint.text_names)
    text_model = source.check(info)
    table = embedding_table(source, info, text_map_of(model))
    manifest = manifest_of(model, info, text_model, source.templates(), {}, name=None, license=None)
    with tempfile.TemporaryDirectory(prefix="ovsdino-bench.") as name:
        folder = Path(name)
        path = folder / VOCABULARY
        table.save(path)
        entry = FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
        yield (
            Bundle(folder, replace(manifest, files={VOCABULARY: entry})),
            TorchBackend(model, _torch_device(device), _sam(checkpoint)),
        )


def _torch_backend(checkpoint: CheckpointSource, device: DeviceChoice, bundle: Bundle) -> TorchBackend:
    with needing("bench", "measuring a checkpoint"):
        from ovsdino.torch_backend import TorchBackend  # noqa: PLC0415 - torch is optional
        from ovsdino_bench.same_model import load_same_model  # noqa: PLC0415

        where = _torch_device(device)
        model = load_same_model(bundle, checkpoint.path, checkpoint.backbone_weights)
        return TorchBackend(model, where, _sam(checkpoint))


def _sam(checkpoint: CheckpointSource) -> SamTeacher | None:
    if checkpoint.sam is None:
        return None
    with needing("train", "SAM's features"):
        import transformers  # noqa: F401, PLC0415 - optional

        from ovsdino.teacher import load_sam  # noqa: PLC0415 - torch is optional

        return load_sam(checkpoint.sam)


def _torch_device(device: DeviceChoice) -> str:
    import torch  # noqa: PLC0415 - optional

    if device != "cuda":
        return "cpu"
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            f"device 'cuda' was asked for, but PyTorch {torch.__version__} sees no GPU here; check the "
            "driver, or use --device cpu"
        )
    return "cuda"


def weights_sha256(checkpoint: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights."""
    from ovsdino.checkpoint import WEIGHTS  # noqa: PLC0415 - torch is optional

    return sha256_of(checkpoint / WEIGHTS)
