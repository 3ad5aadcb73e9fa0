"""THE STORY of INT8: a bundle's FP32 graph -> one with integer products that meets its gates -> both."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ovsdino_export.fp16 import evidence_of
from ovsdino_export.integer_graph import products, rounding_errors, to_int8
from ovsdino_export.islands import WIDENINGS, Island
from ovsdino_export.large_graph import save_proto
from ovsdino_export.operators import IR_VERSION, OPSET
from ovsdino_export.precision import Evidence
from ovsdino_export.steps import Progress, silent
from ovsdino_export.typed_graph import with_plain_weights
from ovsdino_export.verify import load_golden
from ovsdino_runtime.backends.ort import open_ort
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, IMAGE_GRAPH_INT8, Bundle, revised_bundle
from ovsdino_runtime.errors import ExportError, ParityError
from ovsdino_runtime.metrics import GATES, Agreement, agreement

PRECISION = "int8"
ARITHMETIC = (
    "ONNX Runtime on a CPU: weights in seven bits by column, activations in eight by window, sums in 32; "
    "all but products with weights in FP32"
)
_WINDOWS_MEASURED = 4  # on which products are ranked, where the gates are missed
_WORST_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class IntegerGraph:
    """An INT8 graph that met its gates.

    Attributes:
        model: the graph.
        converted: how many products compute in INT8.
        islands: products that stay in FP32.
        parity: how it agrees with FP32 on the pictures' windows.
        golden: the same on the golden windows, whose labels have no gate.
        widened: how many times more products had to stay in FP32.
        evidence: where the windows come from.
    """

    model: onnx.ModelProto
    converted: int
    islands: tuple[Island, ...]
    parity: Agreement
    golden: Agreement
    widened: int
    evidence: str

    def record(self) -> dict[str, Any]:
        """Return what the manifest says about it."""
        return {
            "arithmetic": ARITHMETIC,
            "evidence": self.evidence,
            "parity": self.parity.as_dict(),
            "golden_parity": self.golden.as_dict(),
            "products_in_int8": self.converted,
            "widened": self.widened,
            "islands": [island.as_dict() for island in self.islands],
        }


def write_int8(
    bundle: Bundle,
    pictures: Sequence[Path],
    *,
    fp32_nodes: Collection[str] = (),
    progress: Progress = silent,
) -> tuple[Bundle, IntegerGraph]:
    """Derive an INT8 graph for CPUs, write it into the bundle, and return both. Needs no torch.

    Args:
        bundle: the bundle; it is replaced once everything is proven.
        pictures: files to prove on, as the model will see them. The golden windows alone cannot: which of
            some hundred names wins on noise lies within INT8's rounding and says nothing.
        fp32_nodes: products that stay in FP32.
        progress: told what begins.

    Raises:
        ParityError: INT8 misses its gates.
        ExportError: no picture is given, or the graph cannot be converted.
        ImageError: a picture cannot be read.
        OutputError: the bundle cannot be replaced.
    """
    if not pictures:
        raise ExportError(
            "INT8 is proven on pictures, and none is given; name some that the model will see with --images"
        )
    progress("windows in FP32")
    evidence = evidence_of(bundle, pictures)
    golden = len(load_golden(bundle.file(GOLDEN))[0])
    made = integer_graph(
        with_plain_weights(onnx.load(bundle.file(IMAGE_GRAPH))),
        evidence,
        golden=golden,
        window_px=bundle.manifest.window_px,
        fp32_nodes=fp32_nodes,
        progress=progress,
    )
    progress("writing the bundle")
    precisions = {**bundle.manifest.precisions, PRECISION: made.record()}
    data = f"{IMAGE_GRAPH_INT8}.data"
    with revised_bundle(bundle, without=(IMAGE_GRAPH_INT8, data), precisions=precisions) as staged:
        save_proto(made.model, staged / IMAGE_GRAPH_INT8)
        _check(staged / IMAGE_GRAPH_INT8)
    return Bundle.open(bundle.path), made


def integer_graph(
    model: onnx.ModelProto,
    evidence: Evidence,
    *,
    golden: int,
    window_px: int,
    fp32_nodes: Collection[str] = (),
    progress: Progress = silent,
) -> IntegerGraph:
    """Return a graph that meets the gates of INT8.

    Args:
        model: the FP32 graph, with plain weights; not changed.
        evidence: windows to prove on, the golden ones first.
        golden: how many are golden.
        window_px: their side.
        fp32_nodes: products that stay in FP32.
        progress: told what begins.

    Raises:
        ParityError: a gate is missed even with half of the products in FP32; the worst are named.
        ExportError: a node that was named is no product with a weight matrix, or there is no such product.
    """
    names = products(model)
    islands = {name: _island(name, "asked for by name") for name in fp32_nodes}
    for name in fp32_nodes:
        if name not in names:
            raise ExportError(
                f"--fp32-node {name}: the graph has no product with a weight matrix of that name; "
                f"it has {', '.join(names[:_WORST_SHOWN])} and {len(names) - _WORST_SHOWN} more"
            )
    progress("proving INT8")
    errors: list[tuple[str, float]] = []
    for level, share in enumerate((0.0, *WIDENINGS)):
        if share:
            errors = errors or _ranked(model, evidence)
            for name, error in errors[: round(share * len(names))]:
                reason = f"widened to meet the gates: INT8 changes its result by {error:.1%}"
                islands.setdefault(name, _island(name, reason))
        made = to_int8(model, islands)
        on_golden, on_pictures = _prove(made, evidence, golden, window_px)
        failures = _failures(on_golden, on_pictures)
        if not failures:
            return IntegerGraph(
                model=made,
                converted=len(names) - len(islands),
                islands=tuple(islands.values()),
                parity=on_pictures,
                golden=on_golden,
                widened=level,
                evidence=evidence.source,
            )
    worst = [f"{name} (changed by {error:.1%})" for name, error in errors if name not in islands]
    raise ParityError(
        f"INT8 misses its gates: {'; '.join(failures)}; with {len(islands)} of {len(names)} products in FP32 "
        f"already, the worst of the others are {', '.join(worst[:_WORST_SHOWN])}; use FP32, or FP16 on a GPU"
    )


def _failures(golden: Agreement, pictures: Agreement) -> list[str]:
    """Return what misses the gates: features everywhere, labels where something decides them."""
    gate = GATES[PRECISION]
    features = gate.missed_cosines(golden.cosine_mean, golden.cosine_p1)
    return [
        *(f"on pictures {failure}" for failure in pictures.failures(gate)),
        *(f"on golden windows {failure}" for failure in features),
    ]


def _prove(
    model: onnx.ModelProto, evidence: Evidence, golden: int, window_px: int
) -> tuple[Agreement, Agreement]:
    """Return how a graph, run as the runtime runs it, agrees on the golden windows and on the others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / IMAGE_GRAPH_INT8
        save_proto(model, path)
        found = open_ort(path, "cpu", window_px, alone=True).features(evidence.windows)
    first, rest = (
        agreement(evidence.features[part], found[part], evidence.embeddings)
        for part in (slice(None, golden), slice(golden, None))
    )
    return first, rest


def _ranked(model: onnx.ModelProto, evidence: Evidence) -> list[tuple[str, float]]:
    """Return the products and how much INT8 changes them, the worst first."""
    places = np.linspace(0, len(evidence.windows) - 1, _WINDOWS_MEASURED).round().astype(int)
    errors = rounding_errors(model, evidence.windows[np.unique(places)])
    return sorted(errors.items(), key=lambda item: -item[1])


def _island(name: str, reason: str) -> Island:
    return Island(node=name, op="MatMul", reason=reason)


def _check(path: Path) -> None:
    """Hold a file against onnx.checker and what every ONNX Runtime from 1.23 on loads.

    Raises:
        ExportError: something is wrong with it.
    """
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is no valid ONNX graph: {str(error).splitlines()[0]}") from error
    frame = onnx.load(path, load_external_data=False)
    opsets = {item.domain: item.version for item in frame.opset_import}
    if opsets != {"": OPSET} or frame.ir_version > IR_VERSION:
        raise ExportError(
            f"{path.name} has the operator sets {opsets} and IR version {frame.ir_version}; "
            f"all runtimes take opset {OPSET} and IR version {IR_VERSION}"
        )
