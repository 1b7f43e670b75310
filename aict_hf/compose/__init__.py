"""Pasting a foreground into a photo."""
