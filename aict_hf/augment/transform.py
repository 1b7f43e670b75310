"""Copy-paste augmentation whose pasted objects are harmonized, as a transform for any data pipeline.

    bank = ForegroundBank.from_pool(["photos"])
    transform = HarmonizedCopyPaste(bank, {"person": 1, "dog": 2}, objects=(1, 3), strengths=(0.7, 1.0), seed=0)
    loader = DataLoader(dataset, batch_size=8, num_workers=4, collate_fn=transform)  # the network runs once a batch

Objects are pasted where they do not cover each other, and each is harmonized with its own mask against the photo as it
was: what is pasted beside it has no say in its colours, and all objects of a batch go through the network at once.

Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (CVPR 2021).
"""

import math
import os
import sys
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..compose.paste import paste
from ..compose.placement import draw_placement
from ..errors import InputError
from ..model.image_processing_aict import AICTImageProcessor, rgb_tensor
from ..model.lut import apply_luts
from ..model.modeling_aict import AICTModel
from ..pretrained import load_checkpoint
from .foregrounds import OPAQUE, Foreground, ForegroundBank

ATTEMPTS = 10  # foregrounds tried for one object, where some do not fit or cannot be read
BOX_FORMATS = ("xyxy", "xywh", "cxcywh")


class HarmonizedCopyPaste:
    """Paste harmonized objects into samples of instance segmentation, and keep their annotations right.

    Called with one sample or a list of them; a list goes through the network together. A sample is a dict:

    - `image`: RGB or gray (which becomes RGB; alpha is left out), as a PIL image, a NumPy array (H, W, C), or a tensor
      (C, H, W) or `tv_tensors.Image`; uint8, uint16 or float in [0, 1];
    - `masks`: (N, H, W), bool or numbers that are 0 outside the object; `boxes`: (N, 4) in pixels; `labels`: (N,); each
      NumPy, torch or `tv_tensors`, which says its boxes' format itself;
    - `image_id`: a number or text of its own, from which, with `seed` and epoch, all chance is drawn: the result is the
      same in any worker and order (pixels, for a batch of the same samples: the network's last bit may depend on it);
    - `area`, `iscrowd`: (N,), where there; anything else passes as it is.

    The result is a new dict of the same types. Objects under a pasted one lose those pixels: their masks, boxes and
    areas are recomputed; those left with less than `min_visible` of their pixels, and those that had none, are dropped.
    Pasted objects come last, with `iscrowd` 0 and masks of the value that the others have. Two keys are added:
    `origins`, int64 (N,), each object's index in the sample before, -1 for pasted ones, and `foregrounds`, the names of
    the pasted ones. With `max_disharmony` there are two more: `disharmony`, a number for each pasted one, and
    `dropped`, the names of those that were left out.

    Foregrounds are scaled to fit, so they may be larger than the image. One that cannot be read is passed over with a
    warning. Objects that find no free place are left out.

    The transform can be pickled; each process loads the network when it first needs it. As for `collate_fn` of a
    DataLoader with workers, keep it on the CPU unless these are spawned.

    Args:
        foregrounds: what to paste, a `ForegroundBank` or any sequence of `Foreground`.
        labels: the label of each category among them, in the samples' own numbers.
        checkpoint: name or folder of the network, or a model and its image processor; the bundled one if left out.
        device: where the network runs.
        probability: how often a sample gets any objects.
        objects: fewest and most objects, drawn uniformly.
        strengths: range of the share of the colour change that is applied, drawn for each object.
        naive: paste without harmonizing, as a baseline; everything else comes out the same.
        max_disharmony: leave out objects whose colours would have to change by more than this to fit
            (`AICTImageProcessor.disharmony`, CIEDE2000); None pastes all.
        size, rotation, flip: as in `compositing.draw_placement`.
        max_scale: most that a foreground is magnified, so that it is not blurred beside the photo.
        feather: width of the soft edge in pixels, as in `compositing.paste`.
        min_visible: the share of its pixels that an object must keep, 0 to 1.
        box_format: "xyxy", "xywh" or "cxcywh", for boxes that do not say it themselves.
        batch_size: how many objects go through the network at once.
        seed: another one gives other results.
    Raises:
        ValueError: if an option is out of range or a category has no label.
    """

    def __init__(
        self,
        foregrounds: Sequence[Foreground],
        labels: Mapping[str, int],
        *,
        checkpoint: str | os.PathLike | tuple[AICTModel, AICTImageProcessor] | None = None,
        device: torch.device | str = "cpu",
        probability: float = 1.0,
        objects: tuple[int, int] = (1, 3),
        strengths: tuple[float, float] = (1.0, 1.0),
        naive: bool = False,
        max_disharmony: float | None = None,
        size: tuple[float, float] | np.ndarray = (0.15, 0.5),
        rotation: tuple[float, float] = (-10.0, 10.0),
        flip: float = 0.5,
        max_scale: float = 1.5,
        feather: float = 1.0,
        min_visible: float = 0.2,
        box_format: str = "xyxy",
        batch_size: int = 8,
        seed: int = 0,
    ):
        if len(foregrounds) == 0:
            raise ValueError("there are no foregrounds to paste; pass at least one")
        for name, value in (("probability", probability), ("min_visible", min_visible)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; expected 0 to 1")
        if not 0 <= objects[0] <= objects[1]:
            raise ValueError(f"objects is {objects}; expected the fewest and the most, 0 or more")
        if not 0 <= strengths[0] <= strengths[1] <= 1:
            raise ValueError(f"strengths is {strengths}; expected a range within 0 to 1")
        if max_disharmony is not None and not max_disharmony >= 0:
            raise ValueError(f"max_disharmony is {max_disharmony}; expected 0 or more")
        if max_scale <= 0 or batch_size < 1:
            raise ValueError(f"max_scale is {max_scale} and batch_size {batch_size}; expected more than 0")
        sizes = np.asarray(size, float)
        if sizes.size == 0 or not (np.isfinite(sizes) & (sizes > 0)).all() or (sizes.size == 2 and sizes[0] > sizes[1]):
            raise ValueError(f"size is {size}; expected shares above 0, of a range the smaller first")
        if box_format not in BOX_FORMATS:
            raise ValueError(f"box_format is {box_format!r}; expected one of {', '.join(BOX_FORMATS)}")
        unknown = set(foregrounds.categories) - set(labels) if isinstance(foregrounds, ForegroundBank) else set()
        if unknown:
            raise ValueError(f"labels lacks {', '.join(sorted(unknown))}, which the foregrounds have; add them")
        self.foregrounds, self.labels, self.checkpoint, self.device = foregrounds, dict(labels), checkpoint, device
        self.probability, self.objects, self.strengths, self.naive = probability, objects, strengths, naive
        self.max_disharmony = max_disharmony
        self.size, self.rotation, self.flip, self.max_scale = sizes, rotation, flip, max_scale
        self.feather, self.min_visible = feather, min_visible
        self.box_format, self.batch_size, self.seed, self.epoch = box_format, batch_size, seed, 0
        self._network: tuple[AICTModel, AICTImageProcessor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_network": None}

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for every sample from now on; call it before each pass over a DataLoader.

        Workers take over what was set when they started: with `persistent_workers` they repeat the first epoch.
        """
        self.epoch = epoch

    @overload
    def __call__(self, samples: Mapping[str, Any], *, epoch: int | None = None) -> dict[str, Any]: ...
    @overload
    def __call__(self, samples: Sequence[Mapping[str, Any]], *, epoch: int | None = None) -> list[dict[str, Any]]: ...
    def __call__(self, samples, *, epoch=None):
        """Augment one sample, or several with one run of the network.

        Args:
            samples: as above.
            epoch: instead of what `set_epoch` set.
        Raises:
            ValueError: if a sample lacks a field, fields differ in size, or have values they cannot have.
            InputError: if no foreground can be read, or the checkpoint cannot be loaded.
        """
        if isinstance(samples, Mapping):
            return self([samples], epoch=epoch)[0]
        drawn = []
        for sample in samples:
            try:
                drawn.append(self._draw(sample, self.epoch if epoch is None else epoch))
            except ValueError as error:
                kind = InputError if isinstance(error, InputError) else ValueError
                raise kind(f"sample {sample.get('image_id', '')}: {error}") from error
        self._harmonize([pasted for _, several in drawn for pasted in several])
        return [self._augmented(sample, image, pasted) for sample, (image, pasted) in zip(samples, drawn, strict=True)]

    def _draw(self, sample: Mapping[str, Any], epoch: int) -> tuple[np.ndarray, list["_Pasted"]]:
        """The image as an array (H, W, 3), and objects pasted onto it, each alone."""
        for field in ("image", "masks", "boxes", "labels", "image_id"):
            if sample.get(field) is None:
                raise ValueError(f"has no {field}; expected image, masks, boxes, labels and image_id")
        image = rgb_tensor(_plain(sample["image"])).permute(1, 2, 0).cpu().numpy()
        masks, boxes = _masks(sample, image.shape[:2]), _array(sample["boxes"])
        counts = {"masks": len(masks), "boxes": len(boxes), "labels": len(sample["labels"])}
        if len(set(counts.values())) > 1:
            raise ValueError(f"has {', '.join(f'{n} {name}' for name, n in counts.items())}; expected as many of each")
        if len(masks) and (masks.shape[1:] != image.shape[:2] or boxes.shape[1:] != (4,)):
            raise ValueError(
                f"masks have shape {masks.shape}, boxes {boxes.shape}, the image {image.shape[:2]}; "
                "expected masks of its size, and boxes of 4 numbers"
            )
        key = sample["image_id"]
        key = key.item() if isinstance(key, Tensor | np.ndarray | np.generic) else key
        generator = np.random.default_rng([self.seed, epoch, zlib.crc32(str(key).encode())])
        pasted: list[_Pasted] = []
        if generator.random() < self.probability:
            for _ in range(int(generator.integers(self.objects[0], self.objects[1], endpoint=True))):
                self._paste_one(image, generator, pasted)
        return image, pasted

    def _paste_one(self, image: np.ndarray, generator: np.random.Generator, pasted: list["_Pasted"]) -> None:
        """Draw a foreground and its place, and add it to `pasted`, unless there is no place."""
        problem: InputError | None = None
        for _ in range(ATTEMPTS):
            try:
                foreground = self.foregrounds[int(generator.integers(len(self.foregrounds)))]
            except InputError as error:
                warnings.warn(f"{error}; another foreground takes its place", stacklevel=5)
                problem = error
                continue
            problem = None
            if foreground.category not in self.labels:
                raise ValueError(f"labels lacks {foreground.category}, which {foreground.name} is; add it")
            strength = generator.uniform(*self.strengths)
            # as a share of the image's shorter side
            largest = self.max_scale * max(foreground.alpha.shape) / min(image.shape[:2])
            sizes = self.size[self.size <= largest]
            if self.size.size == 2 and len(sizes) == 1:  # a range
                sizes = np.array([self.size[0], largest])
            elif self.size.size != 2 and len(sizes) == 2:  # `draw_placement` would take them for a range
                sizes = sizes.repeat(2)
            if len(sizes) == 0:
                continue
            placement = draw_placement(
                generator,
                foreground.alpha.shape,
                image.shape[:2],
                size=sizes,
                rotation=self.rotation,
                flip=self.flip,
                avoid=[other.box for other in pasted],
            )
            if placement is None:
                continue
            composite = paste(foreground.rgb, foreground.alpha, image, **vars(placement), feather=self.feather)
            if composite.box is not None:
                pasted.append(_Pasted(composite.image, composite.mask, composite.box, foreground, strength))
                return
        if problem is not None:
            raise InputError(f"none of {ATTEMPTS} foregrounds could be read; {problem}")

    @torch.inference_mode()
    def _harmonize(self, pasted: Sequence["_Pasted"]) -> None:
        """Replace the composites by harmonized ones, and measure their disharmony where it counts."""
        if not pasted or (self.naive and self.max_disharmony is None):
            return
        if self._network is None:
            given = self.checkpoint
            self._network = given if isinstance(given, tuple) else load_checkpoint(given, device=self.device)
        model, processor = self._network
        for start in range(0, len(pasted), self.batch_size):
            batch = pasted[start : start + self.batch_size]
            images, masks = [one.image for one in batch], [one.mask for one in batch]
            inputs = processor(images, masks, input_data_format="channels_last", return_tensors="pt").to(model.device)
            outputs = model(**inputs, return_harmonized=False)
            if self.max_disharmony is not None:
                distances = processor.disharmony(outputs, images, masks, input_data_format="channels_last")
                for one, distance in zip(batch, distances, strict=True):
                    one.disharmony = distance
            if self.naive:
                continue
            for one, knots, color_lut in zip(batch, outputs.knots, outputs.color_lut, strict=True):
                composite = torch.from_numpy(one.image).permute(2, 0, 1)[None].to(knots.device)
                mask = torch.from_numpy(one.mask)[None, None].to(knots.device)
                harmonized = apply_luts(composite, mask, knots[None], color_lut[None], strength=one.strength)
                one.image = harmonized[0].permute(1, 2, 0).cpu().numpy()

    def _augmented(self, sample: Mapping[str, Any], image: np.ndarray, drawn: Sequence["_Pasted"]) -> dict[str, Any]:
        limit = math.inf if self.max_disharmony is None else self.max_disharmony
        pasted = [one for one in drawn if one.disharmony <= limit]
        result = image.copy()
        owner = np.full(image.shape[:2], -1)
        for index, one in enumerate(pasted):
            touched = one.mask > 0
            result[touched] = one.image[touched]
            owner[one.mask >= OPAQUE] = index
        before = _masks(sample, image.shape[:2])
        whole = before != 0
        visible = whole & (owner < 0) if len(before) else whole
        areas = whole.sum(axis=(1, 2)), visible.sum(axis=(1, 2))
        kept = np.flatnonzero((areas[1] > 0) & (areas[1] >= self.min_visible * areas[0]))
        new = [owner == index for index in range(len(pasted))]
        cut = areas[0][kept] != areas[1][kept]

        boxes = _array(sample["boxes"]).reshape(-1, 4)[kept]
        box_format = _box_format(sample["boxes"], self.box_format)
        updated = [_box(mask, box_format) for mask in [*visible[kept][cut], *new]]
        boxes[cut] = np.reshape(updated[: cut.sum()], (-1, 4))
        boxes = np.concatenate([boxes, np.reshape(updated[cut.sum() :], (-1, 4)).astype(boxes.dtype)])
        value = before.max(initial=0) or 1
        masks = np.concatenate([before[kept] * visible[kept], np.reshape(new, (-1, *image.shape[:2])) * value])
        labels = _array(sample["labels"])[kept]
        labels = np.concatenate([labels, np.array([self.labels[o.foreground.category] for o in pasted], int)])

        augmented = dict(sample)
        image = result.transpose(2, 0, 1) if isinstance(sample["image"], Tensor) else result
        values = {"image": image, "masks": masks.astype(before.dtype), "boxes": boxes, "labels": labels}
        if sample.get("area") is not None:
            area = _array(sample["area"])[kept]
            area[cut] = areas[1][kept][cut]
            values["area"] = np.concatenate([area, [mask.sum() for mask in new]])
        if sample.get("iscrowd") is not None:
            values["iscrowd"] = np.concatenate([_array(sample["iscrowd"])[kept], np.zeros(len(new))])
        for name, value in values.items():
            augmented[name] = _like(value, sample[name])
        augmented["origins"] = np.concatenate([kept, np.full(len(new), -1)])
        augmented["foregrounds"] = [one.foreground.name for one in pasted]
        if self.max_disharmony is not None:
            augmented["disharmony"] = [one.disharmony for one in pasted]
            augmented["dropped"] = [one.foreground.name for one in drawn if one.disharmony > limit]
        return augmented


@dataclass
class _Pasted:
    """An object on a photo of its own, and what is known of it; `image` becomes the harmonized one."""

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    foreground: Foreground
    strength: float
    disharmony: float = 0.0


def _plain(value: Any) -> Any:
    """A tensor of a subclass (tv_tensors) as torch's own."""
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else value


def _array(value: Any) -> np.ndarray:
    return _plain(value).cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _masks(sample: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Masks (N, H, W), also where an image without objects has an empty list of them."""
    masks = _array(sample["masks"])
    return masks if masks.size or masks.ndim == 3 else np.zeros((0, *shape), bool)


def _like(array: np.ndarray, given: Any) -> Any:
    """An array as the type that `given` has; an image (H, W, 3) where that is a PIL image."""
    if isinstance(given, Image.Image):
        return Image.fromarray(array)
    if not isinstance(given, Tensor):
        given = np.asarray(given)
        return array.astype(given.dtype, copy=False) if given.size else array  # an empty list says nothing
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(given.device, given.dtype)
    vision = sys.modules.get("torchvision.tv_tensors")  # where a sample has its types, it is loaded
    if vision is not None and isinstance(given, vision.TVTensor):
        return vision.wrap(tensor, like=given)
    return tensor


def _box_format(boxes: Any, default: str) -> str:
    """The convention of boxes; `tv_tensors.BoundingBoxes` name their own."""
    named = getattr(boxes, "format", None)
    if named is None:
        return default
    convention = str(getattr(named, "value", named)).lower()
    if convention not in BOX_FORMATS:
        raise ValueError(f"boxes are {convention}; expected one of {', '.join(BOX_FORMATS)}")
    return convention


def _box(mask: np.ndarray, box_format: str) -> tuple[float, float, float, float]:
    """The box around a mask, whose right and bottom are outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if box_format == "xyxy":
        return left, top, right, bottom
    if box_format == "xywh":
        return left, top, right - left, bottom - top
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


__all__ = ["HarmonizedCopyPaste"]
