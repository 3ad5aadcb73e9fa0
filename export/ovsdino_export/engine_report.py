"""What is said of an engine that was built, or would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.engines import GRAPHS

if TYPE_CHECKING:
    from ovsdino_runtime.bundle import Bundle
    from ovsdino_runtime.engines import EngineFile
    from ovsdino_runtime.sidecar import Precision


def engine_lines(engine: EngineFile) -> list[str]:
    """Return what was built and how it was proven, a line each."""
    sidecar = engine.sidecar
    layers: dict[str, Any] = sidecar.built["layers"]
    share = sidecar.built["inspector_half_share"]
    lines = [
        f"{engine.path}: {sidecar.bytes / 1e6:.1f} MB, batches of {sidecar.profile.least} to "
        f"{sidecar.profile.most}",
        f"layers of the network: {layers['half']} in FP16, {layers['full']} in FP32, {layers['casts']} casts",
        f"agreement with {sidecar.built.get('reference', 'PyTorch')}: "
        + ", ".join(f"{name} {value:.7g}" for name, value in sidecar.parity.items()),
    ]
    if share is not None:
        lines.insert(2, f"TensorRT's inspector: {share:.0%} of the engine's layers touch FP16")
    asked, seen = len(sidecar.built.get("class_names", ())), sidecar.parity.get("classes_seen")
    if seen == 1 and asked > 1:
        lines.append(
            f"weak evidence: on the inputs of this proof one of the {asked} classes covers all, so that an "
            "engine that always gives it would have passed; look at its labels on a picture, or build "
            "--output scores"
        )
    return lines


def derived_note(bundle: Bundle, precision: Precision) -> str | None:
    """Return what is to be known where a graph is used that the bundle does not ship; None if it does."""
    name = GRAPHS[precision]
    if bundle.has(name):
        return None
    keep = command_on(bundle, "ovsdino-export fp16")
    return f"the bundle ships no {name}, so one was derived for this and not kept; `{keep}` keeps one"
