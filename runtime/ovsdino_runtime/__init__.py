"""The device side of OVS-DINO: images to label maps, without torch."""

__version__ = "0.1.0"
