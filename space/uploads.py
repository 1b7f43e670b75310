"""Uploads and results: limits, checks and messages. All files are deleted after an hour."""

import contextlib
import functools
import logging
import os
import re
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from aict_hf.errors import InputError, TooLargeError
from aict_hf.files.images import IMAGE_SUFFIXES, MAX_JPEG_SIDE, ImageFile, read_image, write_image

MAX_MEGAPIXELS = float(os.environ.get("AICT_SPACE_MAX_MEGAPIXELS", "50"))
MAX_FILE_MB = int(os.environ.get("AICT_SPACE_MAX_FILE_MB", "64"))
MAX_BATCH = int(os.environ.get("AICT_SPACE_MAX_BATCH", "40"))  # composites in one batch
MAX_UNPACKED_MB = 4 * MAX_FILE_MB  # of one zip
MAX_ZIP_ENTRIES = 4 * MAX_BATCH
LIFETIME = 3600  # seconds that uploads and results are kept
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # Pillow's names; other formats may run programs
PREVIEW_SIDE = 1280  # pixels of small copies
PREVIEWS = "previews"  # name of the queue of quick events, which do not wait for slow ones

log = logging.getLogger("aict_space")


def photo_upload(label: str, elem_id: str) -> gr.Image:
    """An input for a photo or mask. Handlers get the path of the uploaded file.

    gr.Image would open the file first, and a file that it cannot open would end in an error without a message. This is
    not a subclass, because Gradio writes a stub file next to the source of each subclass. To hide the input, hide its
    container: Gradio builds a component anew to change its properties, which would undo the change made here.
    """
    image = gr.Image(
        label=label, elem_id=elem_id, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=260
    )
    image.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    return image


def visitors_errors(handler: Callable) -> Callable:
    """Turn a handler's exceptions into messages on the page.

    Bad input is described, without folders of this machine. Other exceptions go to the log, and visitors see a
    general message.
    """

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except ValueError as error:
            raise gr.Error(in_words(error), title="Please check", print_exception=False) from None
        except Exception as error:
            log.exception("a handler failed")
            raise gr.Error(
                "Something went wrong here, and not with your files. Please try again, perhaps with a smaller photo.",
                title="Sorry",
                print_exception=False,
            ) from error

    return wrapped


def in_words(error: ValueError) -> str:
    """The message of bad input for visitors, without folders of this machine."""
    return without_folders(f"{error.problem}; scale it down" if isinstance(error, TooLargeError) else str(error))


def without_folders(message: str) -> str:
    """A message without the folders of file names."""
    for folder in (get_upload_folder(), tempfile.gettempdir(), Path.cwd(), Path(__file__).parent):
        message = re.sub(rf"{re.escape(str(folder))}(?:/[^/\s]+)*/(?=[^/\s])", "", message)
    return re.sub(r"(?<![\w.])/(?:[\w.+@-]+/)+", "", message)


def uploaded(file: Any, what: str) -> Path:
    """The path of an upload, from a component or the API.

    Raises:
        ValueError: if nothing was uploaded, or the path is not one of an upload.
    """
    path = file.get("path") if isinstance(file, dict) else getattr(file, "path", file)
    if not path:
        raise ValueError(f"There is no {what} yet: upload one, or start from an example.")
    try:
        resolved = Path(path).resolve()
    except (TypeError, ValueError) as error:  # not a text, or a text with a null character
        raise ValueError(f"The {what} is no upload: upload the file itself.") from error
    allowed = (Path(get_upload_folder()).resolve(), Path(__file__).resolve().parent / "examples")
    if not any(resolved.is_relative_to(folder) for folder in allowed):
        raise ValueError(f"The {what} is no upload: upload the file itself.")
    if not resolved.is_file():
        raise ValueError(f"The {what} was deleted, as all files are after an hour: upload it again.")
    return resolved


def read_photo(file: Any, what: str = "photo") -> ImageFile:
    """Decode an upload.

    Raises:
        ValueError: if the upload is missing, no image, or too large.
    """
    path = uploaded(file, what)
    if path.stat().st_size > MAX_FILE_MB * 2**20:
        raise InputError(f"{path}: is larger than {MAX_FILE_MB} MB; scale it down")
    return read_image(path, max_megapixels=MAX_MEGAPIXELS, formats=FORMATS)


def new_file(name: str) -> Path:
    """A path for a result. Gradio deletes the file when it is older than `LIFETIME`."""
    for folder in _upload_folder().glob("result-*"):  # Gradio empties old folders and leaves them
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > LIFETIME:
                folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="result-", dir=_upload_folder())) / name


def shown(photo: ImageFile, name: str) -> str:
    """A full-size picture for browsers, which show neither TIFF nor 16 bits: JPEG, or PNG if JPEG is too small."""
    pixels = _eight_bit(photo.pixels)
    pixels = pixels.convert("L" if pixels.mode in ("L", "LA") else "RGB")  # a gray profile needs gray pixels
    path = new_file(name + (".jpg" if max(pixels.size) <= MAX_JPEG_SIDE else ".png"))
    write_image(path, ImageFile(pixels, photo.icc_profile))
    return str(path)


def preview(photo: ImageFile, side: int = PREVIEW_SIDE) -> Image.Image:
    """A small RGB or RGBA copy."""
    pixels = _eight_bit(photo.pixels)
    small = pixels.convert("RGBA" if pixels.mode in ("LA", "RGBA") else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small


def save_result(photo: ImageFile, stem: str, format: str) -> Path:
    """Encode a result as "PNG" or "JPEG", with its metadata, under a name made of `stem`."""
    pixels = photo.pixels
    if format == "JPEG" and isinstance(pixels, Image.Image) and pixels.mode in ("RGBA", "LA"):
        photo = replace(photo, pixels=pixels.convert("RGB"))
    elif format == "JPEG" and isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        photo = replace(photo, pixels=np.ascontiguousarray(pixels[..., :-1].squeeze()))
    path = new_file(safe_name(stem) + (".png" if format == "PNG" else ".jpg"))
    write_image(path, photo)
    return path


def safe_name(stem: str) -> str:
    """A file name's stem that is safe on every system."""
    return re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "photo"


def unpack(
    archive: Path, folder: Path, *, max_bytes: int = MAX_UNPACKED_MB * 2**20, max_entries: int = MAX_ZIP_ENTRIES
) -> list[Path]:
    """Unpack the images of a zip.

    One level of folders is kept. Entries whose names are not those of images are left out.

    Raises:
        InputError: if the file is no zip, is encrypted or uses a rare compression, holds a link or a path that leads
            outside, holds more than `max_entries`, or unpacks to more than `max_bytes`. Bytes are counted while
            unpacking; the sizes that the zip states do not matter.
    """
    unpacked, total = [], 0
    if (entries := _stated_entries(archive)) > max_entries:  # before reading them: a million take seconds
        raise InputError(f"{archive.name}: holds {entries} files; at most {MAX_ZIP_ENTRIES} are taken")
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
            if len(infos) > max_entries:
                raise InputError(f"{archive.name}: holds {len(infos)} files; at most {MAX_ZIP_ENTRIES} are taken")
            for entry in infos:
                parts = Path(entry.filename.replace("\\", "/")).parts
                if ".." in parts or entry.filename.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", entry.filename):
                    raise InputError(f"{archive.name}: holds a path that leads outside of it; pack it again")
                if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                    raise InputError(f"{archive.name}: holds a symbolic link; pack the files themselves")
                if entry.flag_bits & 1:
                    raise InputError(f"{archive.name}: is encrypted; pack it without a password")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # zipfile unpacks other compressions at once, regardless of their size
                    raise InputError(f"{archive.name}: is compressed in a rare way; pack it as an ordinary zip")
                name = parts[-1] if parts else ""
                if name.startswith(".") or "__MACOSX" in parts or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                target = folder.joinpath(*parts[-2:-1], name)
                if target.exists():
                    raise InputError(f"{archive.name}: holds {'/'.join(parts[-2:])} twice; rename one")
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, target.open("wb") as sink:
                    while block := source.read(2**20):
                        total += len(block)
                        if total > max_bytes:
                            raise InputError(f"{archive.name}: unpacks to more than {MAX_UNPACKED_MB} MB; send less")
                        sink.write(block)
                unpacked.append(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, IndexError) as error:
        raise InputError(f"{archive.name}: is no zip file that can be read; pack it again") from error
    if not unpacked:
        raise InputError(f"{archive.name}: holds no images; expected {', '.join(IMAGE_SUFFIXES)}")
    return unpacked


def _stated_entries(archive: Path) -> int:
    """The number of entries in a zip's end record; 65535 stands for more."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - 22 - 65535))
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    return struct.unpack_from("<H", tail, place + 10)[0] if 0 <= place <= len(tail) - 22 else 0


def working_folder() -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder for one job."""
    return tempfile.TemporaryDirectory(prefix="job-", dir=_upload_folder())


def _eight_bit(pixels: Image.Image | np.ndarray) -> Image.Image:
    return pixels if isinstance(pixels, Image.Image) else Image.fromarray((pixels >> 8).astype(np.uint8))


def _upload_folder() -> Path:
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
