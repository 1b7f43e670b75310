"""Paste a cut-out file into a photo file, harmonized: `aict compose`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..compose.cutout import find_object, open_session
from ..compose.photos import paste_photo
from ..errors import InputError
from ..files.images import ImageFile, not_kept, read_image, what_is_lost, write_image
from ..model.foreground_mask import mask_surprises
from ..model.image_arrays import opacity_array, rgb_array
from ..model.opened_photo import OpenedPhoto
from .files import Job, check_output, given_mask_surprises
from .options import ComposeOptions
from .photo_luts import LUTPredictor

if TYPE_CHECKING:
    from rembg.sessions.base import BaseSession


def compose_files(
    cutout: Path,
    mask: Path | None,
    background: Path,
    output: Path,
    harmonizer: LUTPredictor | None,
    options: ComposeOptions | None = None,
    *,
    cut_out: "str | BaseSession | None" = None,
    mask_output: Path | None = None,
    warn: Callable[[str], None] = lambda message: None,
    say: Callable[[str], None] = lambda message: None,
) -> None:
    """Paste a cut-out into a photo and harmonize it. The result keeps the photo's compression, metadata and alpha.

    Args:
        cutout: the file to paste.
        mask: the file of its mask, or None if it has an alpha channel or is cut out.
        background: the photo to paste into.
        output: the file to write.
        harmonizer: the network, or None to paste without harmonizing.
        options: where and how to paste; the defaults of `ComposeOptions` if left out.
        cut_out: find the mask with this model or session of rembg (see `aict_hf.compose.cutout.open_session`), in a
            photo without mask and transparency. All else is as if the mask were given.
        mask_output: a file for the mask of what was pasted.
        warn: called with one line for each surprise that is not a failure.
        say: called with one line on what was cut out.
    Raises:
        NothingPastedError: if nothing of the cut-out shows in the photo.
        InputError: if a file cannot be read or written, an output is an input, an option is out of range, or the object
            cannot be cut out. Nothing is written then.
    """
    options = options or ComposeOptions()
    if cut_out is not None and mask is not None:
        raise InputError(f"{mask}: is the mask of {cutout} already; either give it, or cut the object out")
    if mask_output is not None and mask_output.absolute() == output.absolute():
        raise InputError(f"{output}: is given for the picture and for the mask; choose two names")
    for written in (output, mask_output):
        check_output(Job(background, cutout, written))
        check_output(Job(background, mask, written))
    pasted = read_image(cutout, max_megapixels=options.max_megapixels)
    if cut_out is not None and opacity_array(pasted.pixels) is not None:
        raise InputError(
            f"{cutout}: is transparent in places already; paste it as it is, or remove its alpha channel to cut it out"
        )
    alpha: Image.Image | np.ndarray | None = (
        None if mask is None else read_image(mask, max_megapixels=options.max_megapixels).pixels
    )
    photo = read_image(background, max_megapixels=options.max_megapixels)
    if alpha is not None and ImageFile(alpha).size != pasted.size:
        (width, height), expected = ImageFile(alpha).size, pasted.size
        raise InputError(
            f"{mask}: is {width} x {height} pixels, {cutout} is {expected[0]} x {expected[1]}; resize the mask to it"
        )
    decontaminate = options.decontaminate
    if cut_out is not None:
        session = open_session(cut_out) if isinstance(cut_out, str) else cut_out
        try:
            alpha = find_object(pasted, session)
        except InputError as error:
            raise InputError(f"{cutout}: {error}") from error
        decontaminate = decontaminate is not False
        edges = "its soft edges are decontaminated" if decontaminate else "its soft edges keep their colours"
        say(f"{cutout}: {session.model_name} cut out {alpha.mean() / 255:.1%} of it; {edges}")
    try:
        composite, foreground = paste_photo(
            pasted,
            alpha,
            photo,
            position=options.position or (photo.size[0] / 2, photo.size[1] / 2),
            scale=options.scale,
            rotation=options.rotation,
            flip=options.flip,
            feather=options.feather,
            decontaminate=bool(decontaminate),
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{mask or cutout}: {error}") from error
    if harmonizer is not None:
        pixels = composite.pixels
        opened = OpenedPhoto(pixels, rgb_array(pixels), foreground[None], opacity=opacity_array(pixels))
        [luts] = harmonizer.predict_opened([opened])
        composite = replace(composite, pixels=luts.apply(strength=options.strength, overwrite=True))
    write_image(output, composite)
    for note in not_kept(what_is_lost(output, composite)):
        warn(f"{background}: {note}")
    if mask_output is not None:
        write_image(mask_output, ImageFile(Image.fromarray(foreground)))
    if cut_out is not None:
        for surprise in mask_surprises(np.asarray(alpha)[None]):
            warn(f"{cutout}: {surprise}")
    elif alpha is not None:
        for surprise in given_mask_surprises(alpha):
            warn(f"{mask}: {surprise}")


__all__ = ["compose_files"]
