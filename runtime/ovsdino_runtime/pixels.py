"""The only mean and standard deviation in the project (docs/protocol.md, step 2)."""

from __future__ import annotations

MEAN = (123.675, 116.28, 103.53)  # RGB, of pixel values in [0, 255]
STD = (58.395, 57.12, 57.375)
PAD_RGB = (124, 116, 104)  # the mean colour, as pixel values
