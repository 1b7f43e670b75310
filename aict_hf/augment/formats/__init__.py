"""The formats of annotated datasets."""
