"""An engine from a baked graph, for programs that know nothing of this project.

A graph baked from a bundle is held against what PyTorch's golden features give with the same classes. A file
alone has no golden outputs, so its engine is held against what ONNX Runtime's CPU provider computes from it;
the sidecar says which. Labels are gated where they are clear (see `leads_of`); of a file that gives labels
alone nobody knows where that is, so it is tried on scenes, not on noise. Nothing here loads such an engine
again: trtexec, Triton or DeepStream do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino_export.baked_contract import baked_input
from ovsdino_export.build_progress import BuildProgress, Silent
from ovsdino_export.builder import BuildOptions
from ovsdino_export.engine import require_writable, write_engine
from ovsdino_export.engine_attempt import Verdict, attempt, workshop
from ovsdino_export.light_graph import load_light
from ovsdino_export.output_agreement import classes_agreement, labels_agreement, scores_agreement
from ovsdino_export.verify import SCENES, golden_windows, run_onnx
from ovsdino_runtime.engines import EngineFile, engine_name
from ovsdino_runtime.errors import ExportError, ParityError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.metrics import GATES

ISLANDS_KEY = "fp16_islands"  # in the metadata of an FP16 graph: a JSON list of `node`, `op`, `reason`


@dataclass(frozen=True, kw_only=True)
class BakedFile:
    """A baked graph's file.

    Attributes:
        path: the .onnx file, as it is or will be called.
        file: where its content lies now.
        class_names: in the order of the output.
        islands: nodes that compute in FP32 in an FP16 graph.
        input_shape: without the batch: [window, window, 3] for uint8, [3, window, window] for float.
    """

    path: Path
    file: Path
    class_names: tuple[str, ...]
    islands: tuple[Mapping[str, str], ...]
    input_shape: tuple[int, ...]


def read_baked(path: Path) -> BakedFile:
    """Return what a baked graph says about itself.

    Raises:
        ExportError: there is no such file, or it is no graph that `ovsdino-export onnx --classes` wrote.
    """
    hint = "bake one with `ovsdino-export onnx CHECKPOINT --classes NAMES --out FILE.onnx`"
    if not path.is_file():
        raise ExportError(f"there is no file {path}; {hint}")
    try:
        model = load_light(path)
        metadata = {item.key: item.value for item in model.metadata_props}
        if "class_names" not in metadata:
            raise ValueError("it names no classes; for an engine of a bundle name the bundle's folder")
        names = tuple(json.loads(metadata["class_names"]))
        islands = tuple(dict(item) for item in json.loads(metadata.get(ISLANDS_KEY, "[]")))
        [item["node"] for item in islands]
        shape = tuple(int(dim.dim_value) for dim in model.graph.input[0].type.tensor_type.shape.dim[1:])
    except Exception as error:  # protobuf's DecodeError derives from Exception alone
        raise ExportError(f"{path} is no baked graph ({type(error).__name__}: {error}); {hint}") from error
    return BakedFile(path=path, file=path, class_names=names, islands=islands, input_shape=shape)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a baked graph must give.

    Attributes:
        inputs: as the graph takes them.
        outputs: what it must give for them.
        source: who says so.
        leads: by how much the best class leads the next, of the shape of labels; None where the outputs are
            scores, or nobody knows it.
    """

    inputs: NDArray[np.generic]
    outputs: NDArray[np.generic]
    source: str
    leads: NDArray[np.floating] | None = None


def build_baked_engine(
    baked: BakedFile,
    options: BuildOptions,
    *,
    proof: Proof | None = None,
    progress: BuildProgress | None = None,
) -> EngineFile:
    """Build a baked graph's engine beside it, as NAME-GPU-….engine, and return it, written and proven.

    Args:
        baked: the graph.
        options: precision, batches and what the builder is told.
        proof: what to hold the engine against; None asks ONNX Runtime's CPU provider.
        progress: told what begins.

    Raises:
        BackendUnavailable: TensorRT, cuda-python, a GPU or ONNX Runtime is missing.
        ExportError: TensorRT cannot build it, or its types are not those asked for.
        ParityError: its outputs miss a gate; nothing is written.
        OutputError: the engine cannot be written.
    """
    progress = progress or Silent()
    shop = workshop()
    require_writable(baked.path.parent)
    path, gate = baked.path, GATES[options.precision]
    if proof is None:
        progress.step("results in ONNX Runtime")
        proof = _by_onnxruntime(baked)
    reference, source, leads = proof.outputs, proof.source, proof.leads

    def judge(outputs: NDArray[np.generic], which: NDArray[np.intp]) -> Verdict:
        wanted = reference[which]
        if outputs.shape != wanted.shape:
            return {}, [f"its output is {outputs.shape} where {source} gives {wanted.shape}"]
        if np.issubdtype(wanted.dtype, np.integer):
            share, missed = labels_agreement(wanted, outputs, gate, None if leads is None else leads[which])
            by_class, lost = classes_agreement(wanted, outputs.astype(wanted.dtype))
            return share | by_class, missed + lost
        return scores_agreement(wanted.astype(np.float32), outputs.astype(np.float32), gate)

    tried = attempt(shop, baked.file, baked.islands, proof.inputs, judge, options, progress)
    if tried.failures:
        raise ParityError(
            f"the {options.precision.upper()} engine of {path} does not compute what {source} computes: "
            f"{'; '.join(tried.failures)}; nothing was written: report it with TensorRT "
            f"{shop.machine.tensorrt} and {shop.machine.gpu}"
        )
    progress.step("writing the engine")
    hashes = {path.name: sha256_of(baked.file)}
    weights = baked.file.with_name(f"{baked.file.name}.data")
    if weights.is_file():
        hashes[f"{path.name}.data"] = sha256_of(weights)
    target = path.with_name(f"{path.stem}-{engine_name(shop.machine, options.precision)}")
    tried.built["reference"] = source
    tried.built["class_names"] = list(baked.class_names)
    return write_engine(target, tried, hashes, baked.islands, options, shop.machine)


def _by_onnxruntime(baked: BakedFile) -> Proof:
    windows = golden_windows(max(baked.input_shape))
    inputs = baked_input(windows, "float-nchw" if baked.input_shape[0] == 3 else "uint8-nhwc")
    outputs = run_onnx(baked.file, inputs)
    if np.issubdtype(outputs.dtype, np.integer):
        inputs, outputs = inputs[:SCENES], outputs[:SCENES]
    return Proof(inputs=inputs, outputs=outputs, source="ONNX Runtime CPU on the same graph")
