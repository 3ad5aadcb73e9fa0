"""JSON of reports: what is not finite, as the figures of a broken form, is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def finite(value: float) -> float | None:
    """Return a figure as JSON takes it: None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def json_text(value: Any) -> str:
    """Return a report of any kind as JSON; figures in it that are not finite are null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
