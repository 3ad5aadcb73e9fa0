"""From a checkpoint to files that run without PyTorch, each held against PyTorch before it is written."""

from ovsdino_runtime import __version__

__all__ = ["__version__"]
