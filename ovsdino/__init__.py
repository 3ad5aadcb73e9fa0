"""OVS-DINO in PyTorch: the model, its losses, its data and its trainer."""

from ovsdino_runtime import __version__

__all__ = ["__version__"]
