"""Checkpoints and LUTs for other programs."""
