"""An endless, seeded stream of training samples: sample number i is the same whoever asks for it, and when.

So training resumes exactly, with any number of workers, by starting at a later number. For pools too large for a disk
there is a stream without that promise. Needs OpenCV (`pip install "aict_hf[training]"`).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..errors import InputError
from .photos import (
    MaskedPhoto,
    Triplet,
    decode_streamed,
    load_photo,
    load_triplet,
    reference_colors,
)
from .recoloring import LUMINANCE, RecoloringOptions, recolor_foreground

ATTEMPTS = 20
RECENT_PHOTOS = 64  # of a stream, kept to take colours and masks from
KEPT_FOREGROUND = 0.005  # share of a crop that must be foreground, unless a lost one is let through


@dataclass(frozen=True)
class SampleOptions:
    """How a sample is cut out of a photo, and varied.

    Attributes:
        max_side: triplets: shrink those whose longer side has more pixels, before they are cropped.
        resolution: side the crop is resized to, in pixels; None keeps the crop's own size, as the paper does.
        crop: range of the crop's share of height and of width, drawn apart.
        lost_foreground: how often a crop without foreground is let through instead of drawn again.
        flip: how often a crop is mirrored.
        source_balance: how far photos of rare sources (or triplets of small subsets) come more often: 0 draws every
            photo alike, 1 every source alike, 0.5 a source by the root of its size.
        borrowed_mask: synthetic: how often another photo's mask, moved and scaled, marks the foreground.
        inverted_mask: synthetic: how often foreground and background change places.
        mask_error: synthetic: how often the mask is grown or shrunk by a few pixels after recolouring.
        scene_change: synthetic: how often the whole photo is recoloured first, so that colours alone tell nothing.
        same_category: synthetic: how often the new colours come from a photo of the same category, where the pool has
            more than three of it.
        joint_change: how often composite and real photo get the same change of light and taste (`jointly_changed`).
        weaker_change: how often the composite is moved towards the real photo, by a random share of their difference.
        keep_photos: synthetic: whether photos stay in memory once read, no larger than crops of `resolution` need: 4
            bytes a pixel, in every worker.
        recoloring: synthetic: how the foreground is recoloured.
    """

    max_side: int | None = None
    resolution: int | None = None
    crop: tuple[float, float] = (0.5, 1.0)
    lost_foreground: float = 0.05
    flip: float = 0.5
    source_balance: float = 0.0
    borrowed_mask: float = 0.0
    inverted_mask: float = 0.0
    mask_error: float = 0.0
    scene_change: float = 0.0
    same_category: float = 0.0
    joint_change: float = 0.0
    weaker_change: float = 0.0
    keep_photos: bool = False
    recoloring: RecoloringOptions = field(default_factory=RecoloringOptions)


class TrainingSamples(Dataset):
    """Samples of iHarmony4-like triplets, or synthetic composites of real photos with masks.

    An item is a dict: `composite` and `real`, RGB uint8 (3, H, W), `mask`, uint8 (1, H, W), `name`, and `broken`, one
    line for each file that could not be read on the way to it (the next photo takes its place).

    Args:
        photos: triplets or masked photos, drawn in a new order every time all were seen; independently where sources
            are balanced.
        options: how samples are cut and varied.
        seed: another one gives other samples.
        length: how many samples there are to ask for.
        start: number of the first one.
    Raises:
        ValueError: if there are no photos.
    """

    def __init__(
        self,
        photos: Sequence[Triplet] | Sequence[MaskedPhoto],
        options: SampleOptions,
        *,
        seed: int,
        length: int,
        start: int = 0,
    ):
        if not photos:
            raise ValueError("there are no photos to train on; pass at least one")
        self.photos, self.options, self.seed, self.length, self.start = photos, options, seed, length, start
        self._order: tuple[int, np.ndarray] = (-1, np.arange(0))
        self._cumulative = _cumulative_shares(photos, options.source_balance) if options.source_balance else None
        self._alike = _indexes_by_category(photos) if options.same_category else {}
        self._kept: dict[MaskedPhoto, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        number = self.start + index
        rng = np.random.default_rng([self.seed, number])
        broken: list[str] = []
        for step in range(ATTEMPTS):
            photo = self.photos[self._photo_of(number + step)]
            try:
                drawn = self._draw(photo, rng, broken)
            except InputError as error:
                broken.append(str(error))
                continue
            if drawn is not None:
                name = (photo.composite if isinstance(photo, Triplet) else photo.image).name
                return sample_item(varied(drawn, rng, self.options), name, broken)
        raise InputError(f"no sample in {ATTEMPTS} photos in a row; {broken[-1] if broken else 'are the masks empty?'}")

    def _photo_of(self, number: int) -> int:
        if self._cumulative is not None:
            return self._draw_photo(np.random.default_rng([self.seed, number, 1]))
        epoch, place = divmod(number, len(self.photos))
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.photos))
        return int(self._order[1][place])

    def _draw_photo(self, rng: np.random.Generator) -> int:
        if self._cumulative is None:
            return int(rng.integers(len(self.photos)))
        return int(np.searchsorted(self._cumulative, rng.random(), side="right"))

    def _draw(
        self, photo: Triplet | MaskedPhoto, rng: np.random.Generator, broken: list[str]
    ) -> tuple[np.ndarray, ...] | None:
        if isinstance(photo, Triplet):
            sample = load_triplet(photo, max_side=self.options.max_side)
            return _crop([sample.composite, sample.mask, sample.real], 1, self.options, rng)
        alike = self._alike.get(photo.category, ())
        if alike and rng.random() >= self.options.same_category:
            alike = ()
        return _recolored(*self._load(photo), lambda: self._other(rng, broken, alike), rng, self.options)

    def _load(self, photo: MaskedPhoto) -> tuple[np.ndarray, np.ndarray]:
        if photo in self._kept:
            return self._kept[photo]
        image, mask = load_photo(photo)
        if self.options.keep_photos:
            if self.options.resolution is not None:
                scale = self.options.resolution / self.options.crop[0] / min(mask.shape)
                if scale < 1:
                    image, mask = (
                        cv2.resize(i, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for i in (image, mask)
                    )
            self._kept[photo] = image, mask
        return image, mask

    def _other(
        self, rng: np.random.Generator, broken: list[str], among: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Another photo and its mask, of some photos or of all; files that cannot be read are noted and passed over."""
        for _ in range(ATTEMPTS):
            photo = self.photos[among[int(rng.integers(len(among)))] if among else self._draw_photo(rng)]
            assert isinstance(photo, MaskedPhoto)
            try:
                return self._load(photo)
            except InputError as error:
                broken.append(str(error))
        raise InputError(f"none of {ATTEMPTS} photos could be read; {broken[-1]}")


class StreamedSamples(IterableDataset):
    """Synthetic composites of photos that come as a stream, for pools larger than a disk; it never ends.

    Items are those of `TrainingSamples`. "Other" photos are among the last ones seen. Workers share out the stream's
    shards. Which samples come depends on the number of workers, and a stream cannot be entered in the middle: a resumed
    run should pass another seed.

    Args:
        photos: what `harmonization_data.stream_photos` returns.
        options: how samples are cut and varied.
        seed: of the shuffling and of every choice.
        process: number of this process, where several train: each makes choices of its own.
        shuffle_buffer: how many photos wait in memory, undecoded, to be drawn in random order.
    """

    def __init__(self, photos, options: SampleOptions, *, seed: int, process: int = 0, shuffle_buffer: int = 256):
        self.photos, self.options, self.seed, self.shuffle_buffer = photos, options, seed, shuffle_buffer
        self.process = process

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0, self.process])
        recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=RECENT_PHOTOS)
        shuffled = self.photos.shuffle(seed=self.seed, buffer_size=self.shuffle_buffer)
        for epoch in count():
            shuffled.set_epoch(epoch)
            seen = made = 0
            broken: list[str] = []
            for row in shuffled:
                seen += 1
                try:
                    photo = decode_streamed(row)
                except InputError as error:
                    broken.append(str(error))
                    continue
                recent.append(photo)
                if len(recent) < 2:
                    continue
                drawn = _recolored(*photo, lambda: recent[int(rng.integers(len(recent)))], rng, self.options)
                if drawn is not None:
                    made += 1
                    name = row["image"]["path"] or "streamed photo"
                    yield sample_item(varied(drawn, rng, self.options), name, broken)
                    broken = []
            if seen == 0:  # a worker without a shard
                return
            if made == 0 and worker is not None and worker.num_workers > 1:  # a poor shard; the others go on
                return
            if made == 0:
                reason = broken[-1] if broken else "are the masks empty, or is there one photo alone?"
                raise InputError(f"no sample in a stream of {seen} photos; {reason}")


def _indexes_by_category(photos: Sequence[Triplet] | Sequence[MaskedPhoto]) -> dict[str, list[int]]:
    """Numbers of the photos of each category that has more than three."""
    indexes = defaultdict(list)
    for index, photo in enumerate(photos):
        if isinstance(photo, MaskedPhoto) and photo.category:
            indexes[photo.category].append(index)
    return {category: found for category, found in indexes.items() if len(found) > 3}


def _cumulative_shares(photos: Sequence[Triplet] | Sequence[MaskedPhoto], balance: float) -> np.ndarray:
    """Running sums, up to 1, of how often each photo is drawn."""
    sources = [photo.subset if isinstance(photo, Triplet) else photo.source for photo in photos]
    sizes = Counter(sources)
    shares = np.cumsum([sizes[source] ** -balance for source in sources])
    return shares / shares[-1]


def sample_item(images: Sequence[np.ndarray], name: str, broken: list[str]) -> dict:
    """An item of `TrainingSamples` from composite, mask and real photo as arrays."""
    composite, mask, real = images
    return {
        "composite": torch.from_numpy(composite).permute(2, 0, 1),
        "mask": torch.from_numpy(mask)[None],
        "real": torch.from_numpy(real).permute(2, 0, 1),
        "name": name,
        "broken": broken,
    }


def _recolored(
    image: np.ndarray,
    mask: np.ndarray,
    other: Callable[[], tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
    options: SampleOptions,
) -> tuple[np.ndarray, ...] | None:
    """A crop of a photo as composite, mask and real photo; `other` gives another photo and its mask."""
    real, mask = _crop([image, mask], 1, options, rng)
    if rng.random() < options.borrowed_mask:
        mask = _moved(other()[1], mask.shape, rng)
    if rng.random() < options.inverted_mask:
        mask = 255 - mask
    if rng.random() < options.scene_change:
        real = _scene_change(real, rng)
    if (mask > 127).mean() < KEPT_FOREGROUND or (mask > 127).mean() > 0.95:
        return (real, mask, real) if rng.random() < options.lost_foreground else None
    references = [reference_colors(*other(), rng) for _ in range(2)]
    recolored = recolor_foreground(real, mask, references, rng, options.recoloring)
    if recolored is None:
        return None
    if rng.random() < options.mask_error:
        size = int(rng.integers(2, max(3, min(mask.shape) // 40) + 1))
        operation = cv2.dilate if rng.random() < 0.6 else cv2.erode
        mask = np.asarray(operation(mask, np.ones((size, size), np.uint8)))
    return recolored.composite, mask, real


def _crop(
    images: list[np.ndarray], mask: int, options: SampleOptions, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """The same random crop of several images, redrawn where it loses the foreground of image number `mask`."""
    height, width = images[mask].shape
    for _ in range(ATTEMPTS):
        rows, columns = (max(1, round(side * rng.uniform(*options.crop))) for side in (height, width))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        block = slice(top, top + rows), slice(left, left + columns)
        if (images[mask][block] > 127).mean() >= KEPT_FOREGROUND or rng.random() < options.lost_foreground:
            break
    flip = -1 if rng.random() < options.flip else 1
    return tuple(_resized(np.ascontiguousarray(image[block][:, ::flip]), options.resolution) for image in images)


def _resized(image: np.ndarray, resolution: int | None) -> np.ndarray:
    if resolution is None:
        return image
    shrinks = min(image.shape[:2]) > resolution
    return np.asarray(
        cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    )


def _moved(mask: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A mask scaled, stretched and shifted over a canvas of `shape`, partly outside it perhaps."""
    scale = rng.uniform(0.3, 1.2) * min(shape) / max(mask.shape) * rng.uniform(0.8, 1.25, 2)
    angle = rng.uniform(-30, 30)
    transform = cv2.getRotationMatrix2D((mask.shape[1] / 2, mask.shape[0] / 2), angle, 1.0)
    transform = np.diag([scale[0], scale[1]]) @ transform
    centre = np.array([rng.uniform(0, shape[1]), rng.uniform(0, shape[0])])
    transform[:, 2] += centre - transform @ [mask.shape[1] / 2, mask.shape[0] / 2, 1]
    return np.asarray(cv2.warpAffine(mask, transform, (shape[1], shape[0])))


def varied(
    sample: Sequence[np.ndarray], rng: np.random.Generator, options: SampleOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A finished sample (composite, mask, real photo) with a weaker change, or a joint one, where they are drawn."""
    composite, mask, real = sample
    if options.weaker_change and rng.random() < options.weaker_change:
        share = float(rng.random())
        composite = np.asarray(cv2.addWeighted(composite, share, real, 1 - share, 0))
    if options.joint_change and rng.random() < options.joint_change:
        composite, real = jointly_changed([composite, real], rng)
    return composite, mask, real


def jointly_changed(photos: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The same random change of light and taste on several photos: gain per channel, gamma, saturation.

    Args:
        photos: RGB, uint8, shape (H, W, 3).
        rng: draws the change.
    Returns:
        photos of the same shapes and dtype.
    """
    gain, gamma = np.exp(rng.normal(0, 0.12, 3)), np.exp(rng.normal(0, 0.18))
    saturation = np.exp(rng.normal(0, 0.2))
    curves = (np.linspace(0, 1, 256)[:, None] * gain).clip(0, 1) ** gamma * 255
    # Gray plus `saturation` times the distance from it, as one matrix for all pixels.
    matrix = saturation * np.eye(3) + (1 - saturation) * LUMINANCE
    tables = curves[:, None].round().astype(np.uint8)  # (256, 1, 3), as OpenCV takes a table per channel
    return [np.asarray(cv2.transform(cv2.LUT(photo, tables), matrix)) for photo in photos]


def _scene_change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The whole photo as another camera, light or taste would have it."""
    result = image.astype(np.float32) / 255
    if rng.random() < 0.6:
        result = result * np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    if rng.random() < 0.6:
        result = result.clip(0, 1) ** np.float32(np.exp(rng.normal(0, 0.25)))
    if rng.random() < 0.4:
        gray = (result @ LUMINANCE)[..., None]
        result = gray + (result - gray) * np.float32(np.exp(rng.normal(0, 0.25)))
    if rng.random() < 0.15:
        result = result[..., rng.permutation(3)]
    return (result.clip(0, 1) * 255).round().astype(np.uint8)


__all__ = ["SampleOptions", "StreamedSamples", "TrainingSamples", "jointly_changed", "sample_item", "varied"]
