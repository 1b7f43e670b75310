"""Pasting cut-outs into photos."""
