"""Choices of the export commands."""

from typing import Literal

StoredDtype = Literal["float32", "float16", "bfloat16"]
"""How weights are stored. They load as float32."""

GraphFormat = Literal["onnx", "torch"]
"""Graphs for onnxruntime, or programs of torch.export."""

ExportFormat = Literal["hub", "onnx", "torch"]
"""A model repository for the Hub, or one of `GraphFormat`."""

__all__ = ["ExportFormat", "GraphFormat", "StoredDtype"]
