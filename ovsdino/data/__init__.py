"""Photographs with class masks: where they come from, how they become training views."""
