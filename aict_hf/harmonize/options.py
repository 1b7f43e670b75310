"""Options of harmonizing and composing files and clips, shared by the command line, the local engine and Ray."""

import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files.options import DEFAULT_MAX_MEGAPIXELS


@dataclass(frozen=True)
class HarmonizeOptions:
    """How `harmonize_files`, `harmonize_large_tiff` and `harmonize_with_ray` treat each file.

    Attributes:
        strength: share of the change to apply, 0 to 1.
        invert_mask: fit the background to the foreground instead.
        batch_size: number of composites in one run of the network, and in memory.
        max_megapixels: refuse larger images.
        skip_existing: skip jobs whose output exists. Outputs appear only when they are complete.
        output_folder: folder of all outputs. Their subfolders are created, and a file beside the folder records what
            each output is made from. `skip_existing` then makes an output again if the strength, the network, the
            composite or the mask has changed since.
        measure: put the disharmony of each composite into the report.
    Raises:
        InputError: if a value is out of range.
    """

    strength: float = 1.0
    invert_mask: bool = False
    batch_size: int = 4
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    skip_existing: bool = False
    output_folder: Path | None = None
    measure: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is {self.strength}; expected a share from 0 to 1")
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; expected 1 or more")
        if not self.max_megapixels >= 0:
            raise InputError(f"max_megapixels is {self.max_megapixels}; expected 0 or more")


@dataclass(frozen=True)
class VideoOptions:
    """How `harmonize_video` and `harmonize_frames` treat a clip.

    Attributes:
        smoothing: seconds over which the LUT maps are averaged, as in `VideoHarmonizer`. 0 harmonizes each frame on its
            own.
        strength: share of the change to apply, 0 to 1.
        invert_mask: fit the background to the foreground instead.
        crf: quality of the encoder, lower is better: 0 to 51 for H.264, 0 to 63 for VP9 (.webm). If None, 18 and 24.
        fps: frames per second of a folder of frames.
        max_megapixels: refuse larger frames.
    Raises:
        InputError: if a value is out of range.
    """

    smoothing: float = 0.25  # benchmarks/bench_video.py says why
    strength: float = 1.0
    invert_mask: bool = False
    crf: float | None = None
    fps: float = 25.0
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < math.inf:
            raise InputError(f"smoothing is {self.smoothing}; expected seconds, 0 or more")
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is {self.strength}; expected a share from 0 to 1")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise InputError(f"crf is {self.crf}; expected 0 (best) to 51 for H.264, or to 63 for VP9")
        if not 0 < self.fps < math.inf:
            raise InputError(f"fps is {self.fps}; expected frames per second, above 0")
        if not self.max_megapixels >= 0:
            raise InputError(f"max_megapixels is {self.max_megapixels}; expected 0 or more")


@dataclass(frozen=True)
class ComposeOptions:
    """How `compose_files` pastes and harmonizes.

    Attributes:
        position: x and y of the cut-out's centre in pixels of the background; None is the background's centre.
        scale: size of a cut-out pixel in background pixels.
        rotation: degrees, counterclockwise.
        flip: mirror left to right, before rotating.
        feather: width of a soft edge, in pixels.
        decontaminate: estimate the cut-out's own colours at translucent pixels (an extra: `aict_hf[compositing]`); None
            does it for what rembg cuts out, whose extra contains it.
        strength: share of the colour change to apply, 0 to 1.
        max_megapixels: refuse larger images.
    Raises:
        InputError: if a value is out of range.
    """

    position: tuple[float, float] | None = None
    scale: float = 1.0
    rotation: float = 0.0
    flip: bool = False
    feather: float = 0.0
    decontaminate: bool | None = None
    strength: float = 1.0
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is {self.strength}; expected a share from 0 to 1")
        if self.position is not None and not (len(self.position) == 2 and all(map(math.isfinite, self.position))):
            raise InputError(f"position is {self.position}; expected finite x and y in pixels of the background")
        if not 0 < self.scale < math.inf:
            raise InputError(f"scale is {self.scale}; expected a finite number above 0")
        if not math.isfinite(self.rotation):
            raise InputError(f"rotation is {self.rotation}; expected degrees, a finite number")
        if not 0 <= self.feather < math.inf:
            raise InputError(f"feather is {self.feather}; expected a width in pixels, 0 or more")
        if not self.max_megapixels >= 0:
            raise InputError(f"max_megapixels is {self.max_megapixels}; expected 0 or more")


__all__ = ["ComposeOptions", "HarmonizeOptions", "VideoOptions"]
