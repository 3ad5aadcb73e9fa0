"""Reports of latency and parity as the commands write them, made up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovsdino_bench.latency import Timed
from ovsdino_bench.latency_report import latency_report
from ovsdino_bench.telemetry import Telemetry
from ovsdino_bench.ways import STAGES


def latency(factor: float = 1.0, seed: int = 0, load: float = 0, engines: Sequence[dict] = ()) -> dict:
    times = np.random.default_rng(seed).normal(100, 3, 40)
    first = Timed(way="A", size_hw=(4, 6), stages=dict.fromkeys(STAGES, tuple(times)))
    second = Timed(way="<B>", size_hw=(4, 6), stages=dict.fromkeys(STAGES, tuple(factor * times)))
    batches = [{"way": way, "batch": n, "windows_per_s": 5.0 * n, "p50": 9.5} for way in "AB" for n in (1, 2)]
    return latency_report(
        timed=[first, second],
        throughput=batches,
        engines=engines,
        cold={"A": [{"total_ms": 9.0, "open_ms": 2.0, "first_image_ms": 3.0, "peak_host_bytes": 10**8}]},
        telemetry=Telemetry(cores=2, load_before=load),
        facts={"runs": 40, "warmup": 1, "command": "ovsdino-bench latency"},
    )


def parity(agreement: float) -> dict:
    form = {
        "form": "onnx-fp32-cpu", "label_agreement": agreement, "cosine_mean": 1.0, "cosine_p1": 1.0,
        "delta_miou_points": None, "worst_images": [{"file": "a.png", "label_agreement": 0.5}],
    }  # fmt: skip
    names = ["car", "road"]
    question = {
        "vocabulary": None, "prompts": {name: [name] for name in names}, "background_class": None,
        "threshold_cosine": None,
    }  # fmt: skip
    return {"kind": "parity", "schema": 1, "forms": [form], "classes": names, "question": question}


def engine(way: str, batch: int, alone: float, whole: float) -> dict:
    kinds = (("without_transfers", alone), ("with_transfers", whole))
    return {"way": way, "batch": batch, **{kind: {"p50": ms, "observations_ms": [ms]} for kind, ms in kinds}}
