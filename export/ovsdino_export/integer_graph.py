"""An INT8 graph that is right: integer products, proof as it is served, more products in FP32."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ovsdino_export.evidence import Evidence
from ovsdino_export.integer_products import products, rounding_errors, to_int8
from ovsdino_export.islands import WIDENINGS, Island
from ovsdino_export.large_graph import save_proto
from ovsdino_export.scratch import scratch_folder
from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.backends.ort import open_ort
from ovsdino_runtime.bundle import IMAGE_GRAPH_INT8
from ovsdino_runtime.errors import ExportError, ParityError
from ovsdino_runtime.metrics import GATES, Agreement, agreement

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
        evidence: see `Evidence.source`.
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
            "batch": 1,
            "evidence": self.evidence,
            "parity": self.parity.as_dict(),
            "golden_parity": self.golden.as_dict(),
            "products_in_int8": self.converted,
            "widened": self.widened,
            "islands": [island.as_dict() for island in self.islands],
        }


def kept_by_name(model: onnx.ModelProto, fp32_nodes: Collection[str]) -> tuple[Island, ...]:
    """Return products that a person wants in FP32.

    Args:
        model: the FP32 graph, with plain weights.
        fp32_nodes: their names.

    Raises:
        ExportError: the graph has no product with a weight matrix, none of that name, or none is left.
    """
    names = products(model)
    if not names:
        raise ExportError("the graph has no product with a weight matrix, so nothing can compute in INT8")
    for name in sorted(set(fp32_nodes) - set(names)):
        more = f" and {len(names) - _WORST_SHOWN} more" if len(names) > _WORST_SHOWN else ""
        raise ExportError(
            f"--fp32-node {name}: the graph has no product with a weight matrix of that name; it has "
            f"{', '.join(names[:_WORST_SHOWN])}{more}"
        )
    if set(names) <= set(fp32_nodes):
        raise ExportError(
            f"--fp32-node keeps every one of the {len(names)} products with a weight matrix in FP32, so "
            "nothing can compute in INT8; name fewer"
        )
    return tuple(_island(name, "asked for by name") for name in names if name in fp32_nodes)


def integer_graph(
    model: onnx.ModelProto,
    evidence: Evidence,
    *,
    window_px: int,
    kept: Sequence[Island] = (),
    progress: Progress = silent,
) -> IntegerGraph:
    """Return a graph that meets the gates of INT8.

    Args:
        model: the FP32 graph, with plain weights; not changed.
        evidence: windows to prove on: golden ones, and some of pictures.
        window_px: their side.
        kept: products that stay in FP32, see `kept_by_name`.
        progress: told what begins.

    Raises:
        ParityError: a gate is missed even with half of the products in FP32; the worst are named.
        ExportError: ONNX Runtime cannot convert the graph.
        OutputError: there is no room for copies of it.
    """
    progress("proving INT8")
    names = products(model)
    islands = {island.node: island for island in kept}
    errors: list[tuple[str, float]] = []
    failures: list[str] = []
    for level, share in enumerate((0.0, *WIDENINGS)):
        if share:
            errors = errors or _ranked(model, evidence)
            for name, error in errors[: round(share * len(names))]:
                reason = f"widened to meet the gates: INT8 changes its result by {error:.1%}"
                islands.setdefault(name, _island(name, reason))
        if len(islands) == len(names):
            break
        made = to_int8(model, islands)
        golden, pictures = _prove(made, evidence, window_px)
        failures = _failures(golden, pictures)
        if not failures:
            return IntegerGraph(
                model=made,
                converted=len(names) - len(islands),
                islands=tuple(islands.values()),
                parity=pictures,
                golden=golden,
                widened=level,
                evidence=evidence.source,
            )
    worst = ", ".join(f"{name} (changed by {error:.1%})" for name, error in errors[:_WORST_SHOWN])
    raise ParityError(
        f"INT8 misses its gates: {'; '.join(failures)}; it changes most {worst}, and {len(islands)} of "
        f"{len(names)} products are in FP32 already; use FP32, or FP16 on a GPU"
    )


def _failures(golden: Agreement, pictures: Agreement) -> list[str]:
    """Return what misses the gates: features everywhere, labels on pictures.

    There every label counts, clear or not: at INT8's gate on cosines hardly any of them would be clear.
    """
    gate = GATES["int8"]
    features = gate.missed_cosines(golden.cosine_mean, golden.cosine_p1)
    missed = gate.missed(pictures.cosine_mean, pictures.cosine_p1, pictures.label_agreement)
    return [
        *(f"on pictures {failure}" for failure in missed),
        *(f"on golden windows {failure}" for failure in features),
    ]


def _prove(model: onnx.ModelProto, evidence: Evidence, window_px: int) -> tuple[Agreement, Agreement]:
    """Return how a graph, run as the runtime runs it, agrees on the golden windows and on the others."""
    with scratch_folder("a copy of the graph") as folder:
        save_proto(model, folder / IMAGE_GRAPH_INT8)
        backend = open_ort(folder / IMAGE_GRAPH_INT8, "cpu", window_px)
        found = backend.features(evidence.windows)

    def part(chosen: slice) -> Agreement:
        features: NDArray[np.float32] = evidence.features[chosen]
        return agreement(features, found[chosen], evidence.embeddings)

    return part(slice(None, evidence.golden)), part(slice(evidence.golden, None))


def _ranked(model: onnx.ModelProto, evidence: Evidence) -> list[tuple[str, float]]:
    """Return the products and how much INT8 changes them, the worst first."""
    places = np.linspace(0, len(evidence.windows) - 1, _WINDOWS_MEASURED).round().astype(int)
    errors = rounding_errors(model, evidence.windows[np.unique(places)])
    return sorted(errors.items(), key=lambda item: -item[1])


def _island(name: str, reason: str) -> Island:
    return Island(node=name, op="MatMul", reason=reason)
