"""An endless, seeded stream of training samples: the number of a sample determines its content.

Training therefore resumes exactly, with any number of workers, by starting at a later number. `StreamedSamples` is for
pools that are larger than a disk and cannot promise this. Needs OpenCV (`pip install "aict_hf[training]"`).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..errors import InputError
from ..files.photo_pools import MaskedPhoto
from .decode import load_photo
from .photos import Triplet, decode_streamed, load_triplet, reference_colors
from .recoloring import LUMINANCE, RecoloringOptions, recolor_foreground

if TYPE_CHECKING:
    import datasets

ATTEMPTS = 20
RECENT_PHOTOS = 64  # of a stream: other photos' colours and masks come from these
KEPT_FOREGROUND = 0.005  # least share of foreground in a crop that did not lose it


@dataclass(frozen=True)
class SampleOptions:
    """How a sample is cut out of a photo and varied. `training/train.py` has a flag for each field.

    Raises:
        ValueError: if a value is out of its range.
    """

    _argument_group_name = "samples"  # in the help of `HfArgumentParser`

    max_side: int = field(
        default=2048,
        metadata={
            "help": "iharmony4: longest side of a triplet in pixels; larger triplets are shrunk before they are "
            "cropped, as the paper does with HAdobe5k; 0 keeps every size"
        },
    )
    resolution: int = field(
        default=0,
        metadata={
            "help": "side of a sample in pixels: crops are resized to this square; 0 keeps them, as the paper does"
        },
    )
    crop: tuple[float, float] = field(
        default=(0.5, 1.0),
        metadata={
            "help": "smallest and largest share of a photo that a crop keeps; height and width are drawn independently",
            "nargs": 2,
            "metavar": ("LEAST", "MOST"),
        },
    )
    lost_foreground: float = field(
        default=0.05, metadata={"help": "probability that a crop without foreground is used instead of drawn again"}
    )
    flip: float = field(default=0.5, metadata={"help": "probability that a crop is mirrored left to right"})
    source_balance: float = field(
        default=0.0,
        metadata={
            "help": "how strongly rare sources are favoured (column source of metadata.csv; iHarmony4's sets): 0 draws "
            "every photo equally often, 1 every source equally often, 0.5 each source in proportion to the square root "
            "of its size"
        },
    )
    borrowed_mask: float = field(
        default=0.0,
        metadata={
            "help": "synthetic: probability that the mask of another photo, moved and scaled, marks the foreground"
        },
    )
    inverted_mask: float = field(
        default=0.0, metadata={"help": "synthetic: probability that foreground and background are swapped"}
    )
    mask_error: float = field(
        default=0.0,
        metadata={"help": "synthetic: probability that the mask is grown or shrunk by a few pixels after recolouring"},
    )
    scene_change: float = field(
        default=0.0,
        metadata={
            "help": "synthetic: probability that the whole photo is recoloured first, so that a colour by itself does "
            "not show what was changed"
        },
    )
    same_category: float = field(
        default=0.0,
        metadata={
            "help": "synthetic: probability that the new colours come from a photo of the same category, if the pool "
            "has more than three of it"
        },
    )
    joint_change: float = field(
        default=0.0,
        metadata={"help": "probability that composite and real photo get the same change of light and taste"},
    )
    weaker_change: float = field(
        default=0.0,
        metadata={
            "help": "probability that the composite is moved towards the real photo by a random share of the way"
        },
    )
    keep_photos: bool = field(
        default=False,
        metadata={
            "help": "synthetic: keep photos in memory once they are read, no larger than crops of --resolution need; "
            "every worker takes 4 bytes a pixel"
        },
    )
    recoloring: RecoloringOptions = field(
        default_factory=RecoloringOptions,
        metadata={
            "help": "synthetic: how the foreground is recoloured, as a JSON object of the RecoloringOptions fields "
            "that differ from their defaults",
            "metavar": "JSON",
        },
    )

    def __post_init__(self) -> None:
        for name in ("max_side", "resolution"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more pixels")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop is {self.crop}; expected two numbers over 0 and up to 1, the smaller one first")
        for name in (
            *("lost_foreground", "flip", "source_balance", "borrowed_mask", "inverted_mask", "mask_error"),
            *("scene_change", "same_category", "joint_change", "weaker_change"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")


class ShuffledOrder:
    """An endless order of `count` things: each pass over all of them is shuffled anew, from the seed alone."""

    def __init__(self, count: int, *, seed: int) -> None:
        self.count, self.seed = count, seed
        self._shuffled: tuple[int, np.ndarray] = (-1, np.arange(0))  # the latest pass, and its order

    def __getitem__(self, number: int) -> int:
        epoch, place = divmod(number, self.count)
        if self._shuffled[0] != epoch:
            self._shuffled = epoch, np.random.default_rng([self.seed, epoch, 1]).permutation(self.count)
        return int(self._shuffled[1][place])


class TrainingSamples(Dataset):
    """Samples of iHarmony4-like triplets, or synthetic composites of real photos with masks.

    An item is a dict: `composite` and `real`, RGB uint8 (3, H, W), `mask`, uint8 (1, H, W), `name`, and `broken`. The
    list `broken` has one line for each file that could not be read for this item; the next photo takes its place.

    Args:
        photos: triplets or masked photos. Every photo is drawn once before any is drawn again, each time in a new
            order. With `options.source_balance`, every draw is independent.
        options: how samples are cut and varied.
        seed: of every random choice.
        length: number of samples.
        start: number of the first sample.
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
    ) -> None:
        if not photos:
            raise ValueError("there are no photos to train on; pass at least one")
        self.photos, self.options, self.seed, self.length, self.start = photos, options, seed, length, start
        self._order = ShuffledOrder(len(photos), seed=seed)
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
        return self._order[number]

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
            if self.options.resolution:
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
        """Another photo and its mask, from the photos of these numbers or, if there are none, from all.

        Files that cannot be read are added to `broken` and another photo is drawn.
        """
        for _ in range(ATTEMPTS):
            photo = self.photos[among[int(rng.integers(len(among)))] if among else self._draw_photo(rng)]
            assert isinstance(photo, MaskedPhoto)
            try:
                return self._load(photo)
            except InputError as error:
                broken.append(str(error))
        raise InputError(f"none of {ATTEMPTS} photos could be read; {broken[-1]}")


class StreamedSamples(IterableDataset):
    """Synthetic composites of streamed photos, without end, for pools that are larger than a disk.

    Items are those of `TrainingSamples`. Colours and masks of other photos come from the last photos of the stream.
    The workers divide the stream's shards among them, so the samples depend on the number of workers. A stream always
    starts at its beginning: pass another seed when a run is resumed.

    Args:
        photos: the stream that `stream_photos` returns.
        options: how samples are cut and varied.
        seed: of the shuffling and of every random choice.
        process: number of this process if several train, so that each makes choices of its own.
        shuffle_buffer: number of encoded photos in memory, from which the next one is drawn at random.
    """

    def __init__(
        self,
        photos: "datasets.IterableDataset",
        options: SampleOptions,
        *,
        seed: int,
        process: int = 0,
        shuffle_buffer: int = 256,
    ) -> None:
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
            if made == 0 and worker is not None and worker.num_workers > 1:  # its shards are unusable; others may do
                return
            if made == 0:
                reason = broken[-1] if broken else "are the masks empty, or is there only one photo?"
                raise InputError(f"no sample in a stream of {seen} photos; {reason}")


def _indexes_by_category(photos: Sequence[Triplet] | Sequence[MaskedPhoto]) -> dict[str, list[int]]:
    """Numbers of the photos of each category with more than three photos."""
    indexes = defaultdict(list)
    for index, photo in enumerate(photos):
        if isinstance(photo, MaskedPhoto) and photo.category:
            indexes[photo.category].append(index)
    return {category: found for category, found in indexes.items() if len(found) > 3}


def _cumulative_shares(photos: Sequence[Triplet] | Sequence[MaskedPhoto], balance: float) -> np.ndarray:
    """Running sums, up to 1, of the probabilities of the photos."""
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
    """A crop of a photo as composite, mask and real photo, or None; `other` returns another photo and its mask."""
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
    """The same random crop of several images, drawn again if it loses the foreground of image number `mask`."""
    height, width = images[mask].shape
    for _ in range(ATTEMPTS):
        rows, columns = (max(1, round(side * rng.uniform(*options.crop))) for side in (height, width))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        block = slice(top, top + rows), slice(left, left + columns)
        if (images[mask][block] > 127).mean() >= KEPT_FOREGROUND or rng.random() < options.lost_foreground:
            break
    flip = -1 if rng.random() < options.flip else 1
    return tuple(_resized(np.ascontiguousarray(image[block][:, ::flip]), options.resolution) for image in images)


def _resized(image: np.ndarray, resolution: int) -> np.ndarray:
    if not resolution:
        return image
    shrinks = min(image.shape[:2]) > resolution
    return np.asarray(
        cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    )


def _moved(mask: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A mask that is scaled, stretched, rotated and moved on a canvas of `shape`, perhaps partly beyond its edge."""
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
    """A sample (composite, mask, real photo) with a weaker or a joint change, at random as the options say."""
    composite, mask, real = sample
    if options.weaker_change and rng.random() < options.weaker_change:
        share = float(rng.random())
        composite = np.asarray(cv2.addWeighted(composite, share, real, 1 - share, 0))
    if options.joint_change and rng.random() < options.joint_change:
        composite, real = jointly_changed([composite, real], rng)
    return composite, mask, real


def jointly_changed(photos: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Change several photos in the same random way: gain of each channel, gamma and saturation.

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
    tables = curves[:, None].round().astype(np.uint8)  # (256, 1, 3): OpenCV's shape of one table for each channel
    return [np.asarray(cv2.transform(cv2.LUT(photo, tables), matrix)) for photo in photos]


def _scene_change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change a whole photo at random, as another camera, light or taste would."""
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


__all__ = [
    "SampleOptions",
    "ShuffledOrder",
    "StreamedSamples",
    "TrainingSamples",
    "jointly_changed",
    "sample_item",
    "varied",
]
