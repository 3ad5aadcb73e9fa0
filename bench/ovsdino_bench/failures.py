"""What fails in a run that goes on without it, told at the end of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovsdino_runtime.errors import BackendUnavailable, BundleError, InferenceError

# What one form or one way may raise and leave the others as they are; a picture that cannot be read may not.
OF_ONE = (BackendUnavailable, BundleError, InferenceError)


class Failures:
    """Forms or ways that failed, in order.

    Attributes:
        found: `name`, `during` and `error` of each, as a report holds them.
    """

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []

    def add(self, name: str, during: str, error: Exception) -> None:
        """Note an error.

        Args:
            name: the form or way.
            during: what it was to do: "a.png", "1920x1080", "batch 8".
            error: what it raised.
        """
        self.found.append({"name": name, "during": during, "error": " ".join(str(error).splitlines())})

    def lines(self) -> list[str]:
        """Return each as a line for people."""
        return failure_lines({"failed": self.found})


def failure_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what failed in a report of latency or parity, a line each; earlier reports have nothing."""
    failed = report.get("failed")
    return [
        f"{item.get('name')} failed, {item.get('during')}: {item.get('error')}"
        for item in (failed if isinstance(failed, list) else ())
        if isinstance(item, Mapping)
    ]
