"""The network in onnxruntime, without torch: `network.onnx` is the graph, and `model.safetensors` holds its weights.

The graph names its weights and holds none, so it fits every checkpoint of the same network: fine-tuned weights too, in
single or half precision. It says which network that is, and ends with a hash of itself.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, one_line
from ..files.weights import read_weights, weight_layout, weights_digest
from ..model.cpu_threads import cpu_threads
from ..pretrained import bundled_checkpoints
from .run_record import file_stamp

GRAPH, WEIGHTS = "network.onnx", "model.safetensors"
OUTPUTS = ("sampling_intervals", "knots", "color_lut")
# Raise it when the network computes something else from the same weights: graphs that were written before are refused.
VERSION = 1
# A graph ends with two entries of ONNX metadata: the digest of the network, and the digest of all bytes before it.
NETWORK_ENTRY, SEAL_ENTRY = "network", "blake2b"
_DIGITS = 32  # of a digest
_SEAL = len(SEAL_ENTRY) + _DIGITS + 6  # protobuf writes a tag and a length before an entry, its key and its value
_DTYPES = {"F16", "F32", "I64"}  # the last counts batches
# Other fields decide what the network computes, or may: unknown ones do.
_CONFIG_WITHOUT_EFFECT = {
    "_name_or_path",
    "architectures",
    "attention_probs_dropout_prob",
    "auto_map",
    "custom_pipelines",
    "hidden_dropout_prob",
    "statistics_dropout_prob",
    "transformers_version",
}
# Fields that older checkpoints lack: with these values they say the same as nothing.
_LATER_DEFAULTS = {
    "color_transform": "aict",
    "affine_inputs": "linear",
    "image_weight": None,
    "weighted_channels": "rgb",
}
_PROCESSOR_WITHOUT_EFFECT = {"auto_map", "feature_extractor_type", "image_processor_type", "processor_class"}
_OTHER_SETTINGS = ("adapter_config.json", "processor_config.json")  # which transformers reads too


class ONNXNetwork:
    """Predicts LUT maps as `AICTModel` does in evaluation, in float32 on the CPU.

    Args:
        session: the `onnxruntime.InferenceSession` of a graph and its weights.
        size: height and width of its inputs in pixels.
        weights: the file of its weights.
        stamp: `file_stamp` of that file when it was read.
    """

    def __init__(self, session: Any, size: tuple[int, int], weights: Path, stamp: list[int]) -> None:
        self.size = size
        self._session = session
        self._weights = weights
        self._stamp = stamp

    @classmethod
    def from_folder(cls, folder: str | os.PathLike, *, threads: int | None = None) -> "ONNXNetwork":
        """Open a checkpoint's folder.

        Args:
            folder: folder with `config.json`, `preprocessor_config.json` and `model.safetensors`. The graph is
                `network.onnx` in this folder or, if that does not fit, in the folder of a bundled checkpoint.
            threads: threads of a run. None means OMP_NUM_THREADS if it is set, as for torch, or else a thread for each
                processor that this process may use.
        Raises:
            InputError: if there is an obstacle; see `onnx_obstacle`.
        """
        try:
            graph, size = _requirements(Path(folder))
        except InputError as error:
            raise InputError(f"{folder}: cannot run in onnxruntime: {error}") from error
        weights = Path(folder, WEIGHTS)
        stamp = file_stamp(weights)
        return cls(open_session(graph, read_weights(weights), threads=threads), size, weights, stamp)

    def __call__(self, pixel_values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the maps of a batch.

        Args:
            pixel_values: low-resolution composites, RGB in [0, 1], float32, shape (B, 3, h, w) with (h, w) = `size`.
            mask: their foreground in [0, 1], float32, shape (B, 1, h, w).
        Returns:
            `sampling_intervals`, `knots` and `color_lut` of `AICTOutput`, float32.
        Raises:
            ValueError: if an input has another shape or dtype.
        """
        inputs = {"pixel_values": pixel_values, "mask": mask}
        for (name, values), channels in zip(inputs.items(), (3, 1), strict=True):
            expected = (len(pixel_values), channels, *self.size)
            if values.shape != expected or values.dtype != np.float32:
                raise ValueError(f"{name} is {values.dtype} of shape {values.shape}; expected float32 of {expected}")
        sampling_intervals, knots, color_lut = self._session.run(OUTPUTS, inputs)
        return sampling_intervals, knots, color_lut

    @property
    def node_counts(self) -> tuple[int, int]:
        """Nodes of the first LUT and of the colour LUT."""
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        return shapes["knots"][2], shapes["color_lut"][2]

    @cached_property
    def weights_digest(self) -> str:
        """`aict_hf.files.weights.weights_digest` of the weights.

        Raises:
            InputError: if the file of the weights has changed since it was opened.
        """
        digest = weights_digest(read_weights(self._weights).items())
        if file_stamp(self._weights) != self._stamp:
            raise InputError(f"{self._weights}: has changed while it was in use; start again")
        return digest


def onnx_obstacle(folder: str | os.PathLike) -> str | None:
    """What keeps a checkpoint's folder from running in onnxruntime, in one clause; None if nothing does.

    Torch may be able to load the folder all the same, or says better what is wrong with it.
    """
    try:
        _requirements(Path(folder))
    except InputError as error:
        return str(error)
    return None


def open_session(graph: bytes, weights: Mapping[str, np.ndarray], *, threads: int | None = None) -> Any:
    """Make a session of a graph and its weights.

    Args:
        graph: the content of `network.onnx`.
        weights: float32 arrays by name.
        threads: as for `ONNXNetwork.from_folder`.
    Raises:
        InputError: if onnxruntime cannot read the graph, or the weights have other names or shapes than its own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.enable_cpu_mem_arena = False  # it keeps memory that the photo needs after the network
    options.intra_op_num_threads = cpu_threads() if threads is None else threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads slow down busy machines
    # Counts of batches are of training alone; no graph has them.
    used = {name: values for name, values in weights.items() if not name.endswith(".num_batches_tracked")}
    try:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in used.values()]
        options.add_external_initializers(list(used), values)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no type in common
        raise InputError(f"{GRAPH}: cannot be read by onnxruntime ({one_line(error)[:200]})") from error


def network_digest(folder: Path) -> str:
    """A hash of all that decides what a checkpoint's network computes, except the values of its weights.

    Args:
        folder: the folder of the checkpoint.
    Returns:
        32 hexadecimal digits.
    Raises:
        InputError: if the configurations or the weights cannot be read.
    """
    settings, _ = _network_settings(folder)
    shapes = {name: shape for name, (_, shape) in weight_layout(folder / WEIGHTS).items()}
    return _digest(json.dumps([VERSION, *settings, shapes], sort_keys=True).encode())


def seal(graph: bytes) -> bytes:
    """The last bytes of a graph's file, as of `SEAL_ENTRY`: the hash of the bytes before them."""
    return _digest(graph).encode()


def _requirements(folder: Path) -> tuple[bytes, tuple[int, int]]:
    """The content of the graph for a checkpoint, and the height and width of its inputs.

    Raises:
        InputError: if there is an obstacle. The message is that clause.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise InputError("onnxruntime is not installed; pip install 'aict_hf[fast]'") from error
    for name in _OTHER_SETTINGS:
        if (folder / name).exists():
            raise InputError(f"{name} changes the checkpoint")
    others = {dtype for dtype, _ in weight_layout(folder / WEIGHTS).values()} - _DTYPES
    if others:
        raise InputError(f"{WEIGHTS} holds {min(others)}; expected F16, F32 or I64")
    network = network_digest(folder).encode()
    own = folder / GRAPH
    problem = f"there is no {GRAPH} for this network"
    for path in (own, *(bundled / GRAPH for bundled in bundled_checkpoints().values())):
        try:
            graph = path.read_bytes()
        except OSError:
            continue
        content = graph[:-_SEAL]
        if graph[-_DIGITS:] != seal(content):
            problem = f"{path} is damaged"
        elif content[-_DIGITS:] == network:
            return graph, _network_settings(folder)[1]
        elif path == own:
            problem = f"{GRAPH} was made for another network"
    raise InputError(problem)


def _network_settings(folder: Path) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """The fields of both configurations that have an effect, and the height and width of the network's inputs."""
    settings = []
    for name, ignored in (
        ("config.json", _CONFIG_WITHOUT_EFFECT),
        ("preprocessor_config.json", _PROCESSOR_WITHOUT_EFFECT),
    ):
        try:
            fields = json.loads((folder / name).read_text(encoding="utf-8"))
            own = {field: value for field, value in fields.items() if field not in ignored}
            settings.append({field: value for field, value in own.items() if _LATER_DEFAULTS.get(field, ...) != value})
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{folder / name}: cannot be read ({one_line(error)[:200]})") from error
    size = settings[1].get("size")
    if not isinstance(size, dict) or set(size) != {"height", "width"} or any(type(v) is not int for v in size.values()):
        raise InputError(f"{folder / 'preprocessor_config.json'}: has no size with height and width")
    return settings, (size["height"], size["width"])


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGITS // 2).hexdigest()


__all__ = ["GRAPH", "OUTPUTS", "ONNXNetwork", "network_digest", "onnx_obstacle", "open_session"]
