"""`VideoHarmonizer`: harmonize the frames of a clip without flicker, one at a time or looking ahead."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..model.opened_photo import LUTMap, OpenedPhoto, open_photo
from .options import VideoOptions
from .photo_luts import LUTPredictor, PhotoLUTs
from .scene_cuts import FrameLook

if TYPE_CHECKING:
    from ..model.opened_photo import ImageLike

MAX_WAITING = 512 * 2**20  # bytes of frames that look_ahead holds


class VideoHarmonizer:
    """Fits the colours of a foreground to its background, frame by frame, without flicker.

    The network sees each frame on its own, so its LUT maps tremble. They are averaged over time, and the frames are
    recoloured with the average: the pixels themselves are not mixed, so nothing blurs or leaves a trail. A scene cut
    begins a new average, and frames without foreground take no part.

    Args:
        harmonizer: predicts the LUT maps, for example a `Harmonizer`.
        smoothing: seconds. A frame this old counts 1/e as much as the present one (calls), or frames up to twice this
            far away take part (`look_ahead`). 0 harmonizes each frame on its own.
        fps: frames per second, where frames come without times.
        strength: share of the change to apply, 0 to 1.
    Raises:
        InputError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from aict_hf import Harmonizer
        >>> video = VideoHarmonizer(Harmonizer.from_pretrained(), fps=30)
        >>> camera = [(np.roll(photo, step, axis=1), np.roll(mask, step, axis=1)) for step in range(3)]
        >>> [video(frame, foreground).shape for frame, foreground in camera]
        [(40, 56, 3), (40, 56, 3), (40, 56, 3)]
    """

    def __init__(
        self,
        harmonizer: LUTPredictor,
        *,
        smoothing: float = VideoOptions.smoothing,
        fps: float = VideoOptions.fps,
        strength: float = 1.0,
    ) -> None:
        VideoOptions(smoothing=smoothing, fps=fps, strength=strength)  # checks them
        self.harmonizer = harmonizer
        self.smoothing = smoothing
        self.fps = fps
        self.strength = strength
        self.cuts = 0
        """Number of scene cuts that were found."""
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far. Call it where another object becomes the foreground; cuts are found without it."""
        self._look: FrameLook | None = None
        self._time: float | None = None
        self._average: Sequence[LUTMap] | None = None
        self._weight = 0.0

    def __call__(self, frame: "ImageLike", mask: "ImageLike | None" = None, *, time: float | None = None) -> Any:
        """Harmonize the next frame with what came before it, for a webcam or a game engine.

        Args:
            frame, mask: one composite and its foreground mask, as in `Harmonizer.__call__`.
            time: seconds at which the frame is shown, later than the last one's; 1 / `fps` after it if left out.
        Returns:
            the harmonized frame, of the type, size and mode of `frame` (PIL for a path).
        Raises:
            ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`, and if the time is not
                later than the last one's.
        """
        return self.predict_opened(open_photo(frame, mask), time=time).apply(strength=self.strength)

    def predict_opened(self, photo: OpenedPhoto, *, time: float | None = None) -> PhotoLUTs:
        """Predict the smoothed LUTs of the next frame, decoded already.

        Args:
            photo: what `open_photo` returned.
            time: as for `__call__`.
        """
        last = self._time
        time = self._next_time(time)
        if last is not None:
            self._weight *= math.exp((last - time) / self.smoothing) if self.smoothing else 0.0
        if self._begins_scene(photo):
            self._average, self._weight = None, 0.0
        [luts] = self.harmonizer.predict_opened([photo])
        if not photo.mask.any():
            return luts
        self._weight += 1
        # The mean of all frames so far, weighted by age: the first frame counts no more than any other.
        if self._average is None or self._weight == 1:
            self._average = luts.maps
        else:
            share = 1 / self._weight
            self._average = [old + (new - old) * share for old, new in zip(self._average, luts.maps, strict=True)]
        return luts.with_maps(self._average)

    def look_ahead(
        self, frames: "Iterable[tuple[ImageLike, ImageLike | None]]", *, times: Iterable[float] | None = None
    ) -> Iterator[Any]:
        """Harmonize frames with what comes before and after them: steadier than calls, for files.

        The result for a frame comes when the frames up to twice `smoothing` after it are read. At most 512 MiB of
        frames wait; where they are too large for that, it looks less far in both directions.

        Args:
            frames: composites with their masks, in order.
            times: seconds at which they are shown; 1 / `fps` apart if left out.
        Yields:
            the harmonized frames, as a call returns them.
        Raises:
            ValueError, FileNotFoundError: as for `__call__`.
        """
        opened = (open_photo(frame, mask) for frame, mask in frames)
        for luts in self.look_ahead_opened(opened, times=times):
            yield luts.apply(strength=self.strength)

    def look_ahead_opened(
        self, photos: Iterable[OpenedPhoto], *, times: Iterable[float] | None = None
    ) -> Iterator[PhotoLUTs]:
        """Predict the smoothed LUTs of frames that are decoded already.

        Args:
            photos: what `open_photo` returned, in order.
            times: as for `look_ahead`.
        """
        self.reset()
        reach = 2 * self.smoothing
        scene = 0
        near: deque[_Timed] = deque()  # the frames that may take part in a result
        waiting: deque[tuple[_Timed, PhotoLUTs]] = deque()

        def finished(reach: float) -> PhotoLUTs:
            frame, luts = waiting.popleft()
            while near[0].scene < frame.scene or near[0].time <= frame.time - 2 * self.smoothing:
                if near[0] is frame:
                    break
                near.popleft()
            return luts.with_maps(_mean(frame, near, reach))

        clock = iter(times) if times is not None else None
        for photo in photos:
            given = None if clock is None else next(clock, None)
            if clock is not None and given is None:
                raise InputError("there are fewer times than frames; pass one for each")
            time = self._next_time(given)
            scene += self._begins_scene(photo)
            [luts] = self.harmonizer.predict_opened([photo])
            frame = _Timed(time, scene, luts.maps, bool(photo.mask.any()))
            while waiting and (waiting[0][0].scene < scene or time >= waiting[0][0].time + reach):
                yield finished(reach)
            near.append(frame)
            waiting.append((frame, luts))
            if (
                len(waiting) > 1
                and sum(held.photo.rgb.nbytes + held.photo.mask.nbytes for _, held in waiting) > MAX_WAITING
            ):
                yield finished(min(reach, time - waiting[0][0].time + 1e-9))
        while waiting:
            yield finished(reach)
        self.reset()

    def _next_time(self, time: float | None) -> float:
        if time is None:
            time = 0.0 if self._time is None else self._time + 1 / self.fps
        if self._time is not None and not time > self._time:
            raise InputError(
                f"time is {time:g} after {self._time:g}; expected a later one (call reset() before another clip)"
            )
        self._time = time
        return time

    def _begins_scene(self, photo: OpenedPhoto) -> bool:
        previous, self._look = self._look, FrameLook.of(photo)
        cut = previous is not None and self._look.is_cut_from(previous)
        self.cuts += cut
        return cut


@dataclass(frozen=True)
class _Timed:
    """The LUT maps of one frame.

    Attributes:
        time: seconds.
        scene: number of cuts before it.
        maps: what the network predicted.
        counts: whether it has a foreground.
    """

    time: float
    scene: int
    maps: Sequence[LUTMap]
    counts: bool


def _mean(frame: _Timed, near: Iterable[_Timed], reach: float) -> Sequence[LUTMap]:
    """Mean of a frame's maps and those around it in its scene, weighted by a raised cosine that ends at `reach`."""
    if not frame.counts or reach <= 0:
        return frame.maps
    total, weights = None, 0.0
    for other in near:
        distance = abs(other.time - frame.time)
        if not other.counts or other.scene != frame.scene or distance >= reach:
            continue
        weight = 0.5 + 0.5 * math.cos(math.pi * distance / reach)
        weights += weight
        parts = [values * weight for values in other.maps]
        total = parts if total is None else [one + part for one, part in zip(total, parts, strict=True)]
    assert total is not None  # the frame itself takes part
    return [values / weights for values in total]


__all__ = ["VideoHarmonizer"]
