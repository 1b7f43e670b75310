"""Defaults of reading image files; the command shows them without importing a decoder."""

DEFAULT_MAX_MEGAPIXELS = 200.0
"""Larger images are refused before they are decoded."""

__all__ = ["DEFAULT_MAX_MEGAPIXELS"]
