"""An FP16 graph that is right: islands by rule and measurement, conversion, proof, wider islands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ovsdino_export.attention import AttentionBlock, attention_blocks
from ovsdino_export.calibration import Record, calibrate
from ovsdino_export.evidence import Evidence
from ovsdino_export.half_arithmetic import ARITHMETIC, HalfBackend
from ovsdino_export.islands import DISTURBANCE_LIMIT, RANGE_MARGIN, WIDENINGS, Choice, Island
from ovsdino_export.steps import Progress, silent
from ovsdino_export.typed_graph import Casts, casts_of, to_half, with_plain_weights
from ovsdino_runtime.errors import ParityError
from ovsdino_runtime.metrics import GATES, Agreement, Gate, agreement

_WORST_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class HalfGraph:
    """An FP16 graph that met its gates.

    Attributes:
        model: the strongly typed graph.
        islands: what computes in FP32.
        parity: how it agrees with FP32, in emulated FP16.
        casts: Casts between the two types.
        attention: the state of every attention.
        largest: the largest magnitude that calibration saw in a tensor that is FP16 now.
        widened: how many times the islands had to be widened.
        evidence: see `Evidence.source`.
    """

    model: onnx.ModelProto
    islands: tuple[Island, ...]
    parity: Agreement
    casts: Casts
    attention: tuple[AttentionBlock, ...]
    largest: float
    widened: int
    evidence: str

    def record(self) -> dict[str, Any]:
        """Return what the manifest says about it."""
        return {
            "arithmetic": ARITHMETIC,
            "evidence": self.evidence,
            "parity": self.parity.as_dict(),
            "range_margin": RANGE_MARGIN,
            "disturbance_limit": DISTURBANCE_LIMIT,
            "largest_fp16_magnitude": self.largest,
            "casts": self.casts.count,
            "needless_casts": self.casts.needless,
            "widened": self.widened,
            "attention": [block.as_dict() for block in self.attention],
            "islands": [island.as_dict() for island in self.islands],
        }


def half_graph(
    model: onnx.ModelProto,
    evidence: Evidence,
    *,
    fp32_ops: Collection[str] = (),
    fp32_nodes: Collection[str] = (),
    kept: Sequence[Island] = (),
    widen: int = 0,
    progress: Progress = silent,
) -> HalfGraph:
    """Return a graph in FP16 that meets the gates of FP16.

    Args:
        model: the FP32 image graph, with its weights; not changed.
        evidence: windows to calibrate and prove on.
        fp32_ops: operators that stay in FP32 too.
        fp32_nodes: nodes that stay in FP32 too.
        kept: islands of an earlier derivation, whose evidence is not at hand any more.
        widen: begin with islands widened so many times, where a device showed that they must be.
        progress: told what begins.

    Raises:
        ParityError: even with the widest islands a gate is missed; the worst tensors are named.
        ExportError: an operator or node that was named is not in the graph.
    """
    plain = with_plain_weights(model)
    choice = Choice(plain)
    choice.by_rule()
    choice.asked(fp32_ops, fp32_nodes)
    choice.keep(kept)
    progress("calibrating")
    records = calibrate(plain, evidence.windows)
    choice.by_measurement(records)
    for share in WIDENINGS[:widen]:
        choice.widen(records, share)
    progress("proving FP16")
    for level in range(min(widen, len(WIDENINGS)), len(WIDENINGS) + 1):
        if level > widen:
            choice.widen(records, WIDENINGS[level - 1])
        half = to_half(plain, choice.islands)
        measured = prove(half, evidence)
        if not measured.failures(GATES["fp16"]):
            return HalfGraph(
                model=half,
                islands=tuple(choice.islands.values()),
                parity=measured,
                casts=casts_of(half),
                attention=attention_blocks(half),
                largest=_largest(records, choice),
                widened=level,
                evidence=evidence.source,
            )
    raise ParityError(missed("FP16", measured, GATES["fp16"], records, choice.islands))


def prove(half: onnx.ModelProto, evidence: Evidence) -> Agreement:
    """Return how an FP16 graph in emulated arithmetic agrees with FP32."""
    found = HalfBackend(half).features(evidence.windows)
    return agreement(evidence.features, found, evidence.embeddings, GATES["fp16"].reach)


def missed(
    what: str, measured: Agreement, gate: Gate, records: Sequence[Record], islands: Collection[str]
) -> str:
    """Return a sentence on the gates that are missed and the tensors most likely to blame."""
    open_to_blame = [record for record in records if record.node not in islands]
    worst = sorted(open_to_blame, key=lambda record: -record.disturbance)[:_WORST_SHOWN]
    named = ", ".join(
        f"{record.node} (largest {record.largest:.4g}, disturbed by {record.disturbance:.2%})"
        for record in worst
    )
    return (
        f"{what} misses its gates: {'; '.join(measured.failures(gate))}; the tensors that suffer most are "
        f"{named or 'all in FP32 already'}; keep them in FP32 with --fp32-node, or use FP32"
    )


def _largest(records: Sequence[Record], choice: Choice) -> float:
    return max((record.largest for record in records if record.node not in choice.islands), default=0.0)
