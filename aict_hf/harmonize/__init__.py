"""Harmonizing photos that lie in files."""
