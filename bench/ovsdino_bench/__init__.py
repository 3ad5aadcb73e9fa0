"""Accuracy, parity and latency of what was exported."""
