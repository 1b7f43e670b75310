"""Images by their names: files, web addresses and base64."""

import base64
import io
import os
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_DOWNLOAD = 256 * 2**20  # bytes
LONGEST_PATH = 4096  # characters
SHORTEST_BASE64 = 64  # characters; a shorter text is the name of a file that is missing


def open_image(image: Any, *, timeout: float | None = None) -> Any:
    """Decode an image and turn it upright. Anything but a path, an address or base64 is returned unchanged.

    Args:
        image: a path; an address that begins with `http://` or `https://`; a `data:` address, or an image file as
            base64, as transformers' own pipelines take them; or an image in memory.
        timeout: seconds that a server may stay silent; 60 if left out.
    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if an address cannot be fetched or leads to more than `MAX_DOWNLOAD` bytes, the file is not an
            image, has 16 bits a channel in colour, or has more pixels than Pillow's own limit
            (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    if not isinstance(image, str | os.PathLike):
        return image
    name, source = _source(image, timeout)
    try:
        with Image.open(source) as opened:
            deep = not opened.mode.startswith("I;16") and any(
                ";16" in str(tile) for tile in getattr(opened, "tile", ())
            )
            upright = ImageOps.exif_transpose(opened)  # loads it
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} cannot be read as an image: its format is not known") from error
    except Exception as error:  # decoders raise of many kinds on damaged files
        raise ValueError(f"{name} cannot be read as an image: {error}") from error
    if deep:
        raise ValueError(
            f"{name} has 16 bits a channel, which Pillow would cut to 8; read it as a uint16 array, "
            "or use aict_hf.files.images.read_image"
        )
    return upright


def _source(image: str | os.PathLike, timeout: float | None) -> tuple[str, Any]:
    """What errors call an image, and what Pillow opens: a path, or the bytes of an address or of base64."""
    text = os.fspath(image)
    if not isinstance(image, str) or os.path.isfile(text):  # noqa: PTH113  Path.is_file fails on long texts
        return text, image
    if text[:8].lower().startswith(("http://", "https://")):
        return short_name(text), io.BytesIO(_download(text, timeout))
    if text[:5].lower() == "data:":
        kind, comma, encoded = text.partition(",")
        if not comma or not kind.lower().endswith(";base64"):
            raise ValueError(f"the data address {short_name(text)} is not base64; expected data:image/png;base64,...")
        content = _decoded(unquote(encoded))
        if content is None:
            raise ValueError(f"the data address {short_name(text)} is damaged; expected base64 after the comma")
        return f"the data address {short_name(text)}", io.BytesIO(content)
    content = _decoded(text) if len(text) >= SHORTEST_BASE64 and " " not in text else None
    if content is not None and (len(text) > LONGEST_PATH or _is_known(content)):
        return f"the base64 {short_name(text)}", io.BytesIO(content)
    if len(text) > LONGEST_PATH:
        raise ValueError(f"{short_name(text)} is not a file, an address or base64 text; check the text")
    return text, image


def _is_known(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # a damaged or a huge one, which the caller opens again
        return True
    return True


def _decoded(text: str) -> bytes | None:
    """The bytes that base64 stands for, or None if it is none; line breaks and missing padding are accepted."""
    joined = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except ValueError:
        return None


def _download(address: str, timeout: float | None) -> bytes:
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "aict_hf"})
        with urllib.request.urlopen(request, timeout=60 if timeout is None else timeout) as answer:
            content = answer.read(MAX_DOWNLOAD + 1)
    except (OSError, HTTPException, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{short_name(address)} cannot be downloaded ({reason}); check the address") from error
    if len(content) > MAX_DOWNLOAD:
        raise ValueError(f"{short_name(address)} is larger than {MAX_DOWNLOAD // 2**20} MiB; download it yourself")
    return bytes(content)


def short_name(text: str) -> str:
    """A path, address or base64 as errors show it: its beginning, if it is long."""
    return text if len(text) <= 200 else f"{text[:60]}... of {len(text)} characters"


__all__ = ["open_image", "short_name"]
