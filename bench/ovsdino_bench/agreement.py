"""Whether what is timed computes what PyTorch computes: held against a reference before it is timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovsdino_bench.failures import Failures
from ovsdino_bench.parity import Form, measure_parity
from ovsdino_bench.plain_json import finite
from ovsdino_bench.recorded import Recorded
from ovsdino_bench.ways import Way
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.files import sha256_of


def agreement_with(
    reference: Path, ways: Sequence[Way], bundle: Bundle, failures: Failures
) -> dict[str, Any]:
    """Return how each way's features and labels agree with PyTorch's, as JSON takes it.

    Every way computes the windows that were recorded; one Segmenter makes labels of the features.

    Args:
        reference: what `ovsdino-bench reference` wrote.
        ways: what is to be timed.
        bundle: geometry and text of all ways.
        failures: takes a way that fails, or whose features are of another shape; it is left out.

    Raises:
        DataError: the file is no reference, damaged, or of another model.
    """
    recorded = Recorded.open(reference)
    # whether a gate is met is for `parity` to say
    forms = [Form(name=way.name, precision="fp32", backend=way.segmenter.backend) for way in ways]
    found = measure_parity(bundle, recorded, forms, failures)
    return {
        "reference_sha256": sha256_of(reference),
        "reference_checkpoint_sha256": recorded.about.get("checkpoint_sha256"),
        "reference_backend": recorded.about.get("backend"),
        "images": len(recorded),
        "ways": [
            {
                "way": item.form,
                "label_agreement": item.label_agreement,
                "cosine_mean": finite(item.cosine_mean),
            }
            for item in found
        ],
    }
