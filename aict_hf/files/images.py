"""Read photos and masks upright with their metadata, and write them atomically."""

import contextlib
import importlib.util
import io
import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin, UnidentifiedImageError, features

from ..errors import InputError, TooLargeError, one_line
from .atomic_write import atomic_file
from .encoding import Encoding, encoding_of
from .exif import append_exif, exif_block
from .metadata import MAX_SEGMENT, Metadata, has_unspecified_channel, read_metadata
from .options import DEFAULT_MAX_MEGAPIXELS

OUTPUT_FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".avif": "AVIF",
    ".jp2": "JPEG2000",
}
MAX_JPEG_SIDE = 65500  # pixels
SIXTEEN_BIT_FORMATS = ("PNG", "TIFF")

# Modes that each format can hold. Other modes are converted to RGBA or RGB.
_MODES = {
    "JPEG": ("RGB", "L"),
    "PNG": ("RGBA", "RGB", "L", "LA"),
    "WEBP": ("RGBA", "RGB"),
    "TIFF": ("RGBA", "RGB", "L", "LA"),
    "AVIF": ("RGBA", "RGB", "L"),
    "JPEG2000": ("RGBA", "RGB", "L", "LA"),
}
# Camera raw files: Pillow opens the small preview of some as if it were the photo.
_RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".pef", ".raf", ".rw2", ".srw")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_VIPS_COMPRESSION = {"raw": "none", "packbits": "packbits", "tiff_lzw": "lzw", "zstd": "zstd"}
_PIXEL_LIMIT = threading.Lock()


@dataclass
class ImageFile:
    """A decoded, upright photo with its metadata.

    Attributes:
        pixels: PIL image of mode L, LA, RGB or RGBA; for 16-bit files a uint16 array, (H, W) or (H, W, C).
        icc_profile: colour profile of the file, or None.
        exif: EXIF block of the file without orientation, or None.
        metadata: what else the file says about the picture.
        encoding: how the file was compressed. A result in the same format is compressed in the same way.
    """

    pixels: Image.Image | np.ndarray
    icc_profile: bytes | None = None
    exif: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    encoding: Encoding = field(default_factory=lambda: Encoding(""))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def rgb_profile(self) -> bytes | None:
        """The colour profile if it describes RGB pixels; None for a gray photo."""
        bands = self.pixels.mode if isinstance(self.pixels, Image.Image) else "L" * (self.pixels.ndim == 2)
        return None if bands in ("L", "LA") else self.icc_profile


def read_image(
    path: str | os.PathLike,
    *,
    content: bytes | None = None,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    formats: tuple[str, ...] | None = None,
) -> ImageFile:
    """Decode a photo or mask, and turn it upright by its EXIF orientation.

    CMYK is converted to sRGB, through the colour profile of the file if it has one. Other pixels keep their profile.

    Args:
        path: a file in a format that Pillow reads; 16-bit RGB files need the extra `aict_hf[16bit]`.
        content: bytes of the file, 8 bits per channel, if it is not on the disk. Errors still name `path`.
        max_megapixels: refuse larger images before decoding them (decompression bombs).
        formats: Pillow names of the formats to accept, for untrusted files; None accepts all that Pillow knows.
    Raises:
        InputError: if the file is missing, empty, truncated, animated, too large or not an image.
    Examples:
        >>> read_image("composite.jpg").size
        (56, 40)
    """
    path = Path(path)
    if content is None and path.is_dir():
        raise InputError(f"{path}: is not an image but a folder; give a file")
    try:
        if (path.stat().st_size if content is None else len(content)) == 0:
            raise InputError(f"{path}: is empty; expected an image")
        _check_kind(path, content, formats)
        with (
            open_lazily(path if content is None else io.BytesIO(content), formats) as image,
            path.open("rb") if content is None else io.BytesIO(content) as stream,
        ):
            width, height = image.size
            check_pixel_count(path, width, height, max_megapixels)
            if image.format != "MPO" and _holds_several(image):  # cameras store previews as MPO
                raise InputError(f"{path}: holds several images; save the one you mean to a file of its own")
            if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(image):
                raise InputError(f"{path}: {_RAW_ADVICE}")
            sixteen_bit = _is_sixteen_bit(image)
            if sixteen_bit and content is not None:
                raise InputError(f"{path}: has 16 bits a channel; convert it to 8")
            if sixteen_bit and formats is not None and image.format not in SIXTEEN_BIT_FORMATS:
                raise InputError(f"{path}: is {image.format} with 16 bits a channel; save it as PNG or TIFF")
            pixels = _decode_sixteen_bit(path) if sixteen_bit else ImageOps.exif_transpose(image)
            if isinstance(pixels, np.ndarray) and has_unspecified_channel(image):  # Pillow leaves it out by itself
                pixels = pixels[..., 0] if pixels.shape[2] == 2 else np.ascontiguousarray(pixels[..., :3])
            metadata, encoding = read_file_facts(image, stream)
            read = ImageFile(pixels, image.info.get("icc_profile"), exif_block(image), metadata, encoding)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: {_unidentified(path if content is None else io.BytesIO(content))}") from error
    except InputError:
        raise
    except Exception as error:  # decoders raise of many kinds on damaged files
        raise InputError(f"{path}: cannot be decoded ({error}); is the file complete?") from error
    if isinstance(read.pixels, Image.Image) and read.pixels.mode in ("I", "F"):
        raise InputError(f"{path}: has 32 bits a pixel, of no known range; convert it to 8 or 16 bits a channel")
    if isinstance(read.pixels, Image.Image) and read.pixels.mode == "CMYK":
        return _from_inks(read)
    if isinstance(read.pixels, Image.Image) and read.pixels.mode not in ("L", "LA", "RGB", "RGBA"):
        alpha = read.pixels.has_transparency_data
        read.pixels = read.pixels.convert("RGBA" if alpha else "L" if read.pixels.mode == "1" else "RGB")
    return read


def _unidentified(source: Path | io.BytesIO) -> str:
    """Why Pillow does not know an image."""
    if _head(source)[:4] in _TIFF_HEADS:
        return (
            "is a TIFF of a kind that cannot be read, such as 32 bits a channel; convert it to gray or RGB with 8 or "
            "16 bits a channel"
        )
    return "is not an image of a known format; expected JPEG, PNG, WebP, TIFF or similar"


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an upright image, read from its header; None if the file cannot be read."""
    try:
        with open_lazily(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size[::-1] if turned else image.size
    except Exception:  # decoders raise of many kinds on damaged files
        return None


def input_suffix(path: Path) -> str:
    """The usual suffix of a file's format, told from its content; "" for formats that are not written."""
    try:
        with open_lazily(path) as image:
            name = "JPEG" if image.format == "MPO" else image.format
    except Exception:  # decoders raise of many kinds on damaged files
        return ""
    return next((suffix for suffix, format_name in OUTPUT_FORMATS.items() if format_name == name), "")


def orientation(path: Path) -> int:
    """The EXIF orientation of an image, 1 (upright) to 8; 1 if it has none or cannot be read."""
    try:
        with open_lazily(path) as image:
            stored = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # decoders raise of many kinds on damaged files
        return 1
    return stored if stored in range(1, 9) else 1


def in_profile(photo: ImageFile, profile: bytes | None = None) -> Image.Image | np.ndarray:
    """Convert the pixels of a photo to another ICC profile.

    Args:
        photo: the photo. 16-bit and gray pixels are returned unchanged.
        profile: the target profile; None means sRGB.
    Returns:
        the pixels, of the type of `photo.pixels`; unchanged if a profile is damaged or both are equal.
    """
    pixels = photo.pixels
    if isinstance(pixels, np.ndarray) or pixels.mode not in ("RGB", "RGBA") or photo.icc_profile == profile:
        return pixels
    try:
        source, target = (
            ImageCms.ImageCmsProfile(io.BytesIO(given)) if given else ImageCms.createProfile("sRGB")
            for given in (photo.icc_profile, profile)
        )
        transform = ImageCms.buildTransform(source, target, "RGB", "RGB")
        probe = np.mgrid[:256:15, :256:15, :256:15].T.astype(np.uint8).reshape(-1, 18, 3)
        moved = ImageCms.applyTransform(Image.fromarray(probe), transform)
        if abs(np.asarray(moved).astype(int) - probe).max() <= 1:
            return pixels  # the profiles are equal, and converting would only add rounding errors
        colors = ImageCms.applyTransform(pixels.convert("RGB"), transform)
    except (ImageCms.PyCMSError, OSError):  # the latter for damaged profiles
        return pixels  # treat a profile that does not fit as missing
    assert colors is not None
    if pixels.mode == "RGBA":
        colors.putalpha(pixels.getchannel("A"))
    return colors


def check_pixel_count(path: str | os.PathLike, width: int, height: int, max_megapixels: float) -> None:
    """Refuse images over a limit, before they are decoded.

    Raises:
        TooLargeError: with the size and the limit.
    """
    if width * height > max_megapixels * 1e6:
        raise TooLargeError(path, (width, height), max_megapixels)


def output_format(path: str | os.PathLike) -> str:
    """The Pillow name of the format for a file name.

    Raises:
        InputError: if the extension is not one of `OUTPUT_FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise InputError(f"{path}: cannot write {suffix or 'a file without extension'}; use .png, .jpg, .webp or .tif")
    if OUTPUT_FORMATS[suffix] == "AVIF" and not features.check("avif"):
        raise InputError(f"{path}: this Pillow cannot write AVIF; pip install -U pillow, or use .png")
    return OUTPUT_FORMATS[suffix]


def write_image(path: str | os.PathLike, image: ImageFile) -> None:
    """Encode a photo in the format of its extension, with its colour profile, EXIF and metadata.

    A file of the format that the photo was read from is compressed as that file was: JPEG with its quantization tables
    and its sampling, WebP with or without loss, TIFF with its compression. Other JPEG, WebP and AVIF files have quality
    95; JPEG 2000 has no loss. `what_is_lost` names what the format cannot hold. 16-bit pixels stay 16-bit in PNG and
    TIFF and become 8-bit elsewhere. The file appears under its name only when it is complete.

    Raises:
        InputError: if the format cannot hold the image or the file cannot be written.
    Examples:
        >>> write_image("copy.png", read_image("composite.jpg"))
        >>> read_image("copy.png").size
        (56, 40)
    """
    path = Path(path)
    format_name = output_format(path)
    pixels, icc_profile = image.pixels, image.icc_profile
    if format_name == "JPEG" and max(image.size) > MAX_JPEG_SIDE:
        raise InputError(f"{path}: JPEG holds at most {MAX_JPEG_SIDE} pixels a side; use .png or .tif")
    if isinstance(pixels, np.ndarray) and format_name not in SIXTEEN_BIT_FORMATS:
        pixels = Image.fromarray(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if isinstance(pixels, Image.Image) and pixels.mode not in _MODES[format_name]:
        alpha = pixels.has_transparency_data and pixels.getchannel("A").getextrema() != (255, 255)
        if alpha and "RGBA" not in _MODES[format_name]:
            raise InputError(f"{path}: {format_name} cannot hold the alpha channel; write .png, .webp or .tif instead")
        if pixels.mode in ("L", "LA"):
            icc_profile = None  # it describes gray pixels; the converted ones are RGB
        pixels = pixels.convert("RGBA" if alpha else "RGB")
    if isinstance(pixels, Image.Image) and format_name == "WEBP" and max(pixels.size) > 16383:
        raise InputError(
            f"{path}: WebP holds at most 16383 pixels a side, the image is {pixels.size}; write .png or .tif"
        )
    exif, metadata = image.exif or b"", image.metadata
    if format_name in ("WEBP", "AVIF", "TIFF"):
        exif = metadata.exif_with_dpi(exif)
    if format_name == "JPEG" and len(exif) > MAX_SEGMENT:
        exif = b""
    options = image.encoding.options_for(format_name)
    if format_name == "JPEG":
        options |= {"exif": exif, "extra": metadata.jpeg_segments(), "comment": metadata.comment or b""}
        options |= {"dpi": metadata.dpi} if metadata.dpi else {}
        if pixels.mode != "RGB":  # type: ignore[union-attr]
            options.pop("keep_rgb", None)
    elif format_name in ("WEBP", "AVIF"):
        options |= {"exif": exif, "xmp": metadata.xmp or b""}
    elif format_name == "JPEG2000":
        options |= {"comment": metadata.comment} if metadata.comment else {}
    with atomic_file(path) as partial:
        try:
            if isinstance(pixels, np.ndarray):
                _encode_sixteen_bit(partial, pixels, icc_profile, image)
            else:
                pixels.save(partial, format=format_name, icc_profile=icc_profile, **options)
            if format_name == "TIFF" and (exif or metadata.tiff_blocks()):
                append_exif(partial, exif, metadata.tiff_blocks())
            if format_name == "PNG":
                metadata.add_to_png(partial, exif, has_profile=bool(icc_profile))
        except (ValueError, TypeError, struct.error) as error:
            raise InputError(f"{path}: cannot be encoded ({error})") from error


def what_is_lost(path: str | os.PathLike, image: ImageFile) -> list[str]:
    """What a file written by `write_image` lacks of the file that the photo was read from, in words.

    Examples:
        >>> what_is_lost("copy.png", read_image("composite.jpg"))
        []
    """
    format_name = output_format(path)
    lost = image.metadata.lost_in(format_name)
    if isinstance(image.pixels, np.ndarray) and format_name not in SIXTEEN_BIT_FORMATS:
        lost.append("more than 8 bits a channel")
    if image.exif and (format_name == "JPEG2000" or (format_name == "JPEG" and len(image.exif) > MAX_SEGMENT)):
        lost.append("EXIF")
    if image.icc_profile and format_name == "JPEG2000":
        lost.append("the colour profile")
    return lost


def not_kept(lost: Sequence[str]) -> list[str]:
    """What `what_is_lost` names, as one note; none if nothing is lost."""
    return [f"not kept in the result: {', '.join(lost)}"] if lost else []


def open_lazily(path: Path | io.BytesIO, formats: tuple[str, ...] | None = None) -> Image.Image:
    """`Image.open`, which reads only the header, without the pixel limit of Pillow.

    That limit is lower than ours and global to the process. HEIC files are opened with pillow-heif if it is installed
    and `formats` is None.
    """
    if formats is None and _is_heif(path):
        with contextlib.suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    with _PIXEL_LIMIT:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def read_file_facts(image: Image.Image, stream: BinaryIO) -> tuple[Metadata, Encoding]:
    """Metadata and compression of an opened file. A damaged part makes them empty, and is named in the metadata."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        metadata = read_metadata(image, stream, turned=orientation in range(5, 9), upright=orientation in (0, 1))
        return metadata, encoding_of(image, stream, turned=orientation in range(5, 9))
    except Exception:  # many types; the photo itself can still be read
        return Metadata(left_out=("its metadata, which is damaged",)), Encoding("")


def _check_kind(path: Path, content: bytes | None, formats: tuple[str, ...] | None) -> None:
    """Refuse files that Pillow reads only with a plugin, or whose preview it takes for the photo.

    Raises:
        InputError: with the plugin to install, or the formats to use.
    """
    if path.suffix.lower() in _RAW_SUFFIXES:
        raise InputError(f"{path}: {_RAW_ADVICE}")
    if not _is_heif(path if content is None else io.BytesIO(content)):
        return
    if formats is not None:
        raise InputError(f"{path}: is HEIC, which is not accepted here; save it as JPEG or PNG")
    if importlib.util.find_spec("pillow_heif") is None:
        raise InputError(f"{path}: is HEIC, which needs the plugin pillow-heif; pip install 'aict_hf[heif]'")


_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RAW_ADVICE = (
    "is a camera raw file (such as DNG), which has no colours yet; develop it with rawpy, darktable or similar and "
    "save it as TIFF"
)


def _head(source: Path | io.BytesIO) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    if isinstance(source, io.BytesIO):
        return source.getvalue()[:64]
    try:
        with source.open("rb") as stream:
            return stream.read(64)
    except OSError:
        return b""


def _is_heif(source: Path | io.BytesIO) -> bool:
    """Whether a file says that it is HEIC, whatever its name."""
    head = _head(source)
    brands = [head[at : at + 4] for at in (8, *range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
    return head[4:8] == b"ftyp" and any(brand in _HEIF_BRANDS for brand in brands)


def _holds_several(image: Image.Image) -> bool:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return getattr(image, "n_frames", 1) > 1
    try:  # n_frames takes minutes for a file with many
        image.seek(1)
    except EOFError:
        return False
    return True


def _from_inks(image: ImageFile) -> ImageFile:
    """Convert CMYK to sRGB."""
    assert isinstance(image.pixels, Image.Image)
    metadata = replace(image.metadata, left_out=("CMYK (the result is sRGB)", *image.metadata.left_out))
    if image.icc_profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(image.icc_profile))
            pixels = ImageCms.profileToProfile(image.pixels, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert pixels is not None
            return replace(image, pixels=pixels, icc_profile=None, metadata=metadata)
        except (ImageCms.PyCMSError, OSError):
            lost = ("the colour profile, which is damaged or does not fit", *metadata.left_out)
            metadata = replace(metadata, left_out=lost)  # treat the profile as missing
    return replace(image, pixels=image.pixels.convert("RGB"), icc_profile=None, metadata=metadata)


def _is_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF is a DNG, whose first picture is a preview."""
    tags = image.tag_v2
    return ExifTags.Base.DNGVersion in tags and bool(tags.get(ExifTags.Base.NewSubfileType, 0) & 1)


def _is_sixteen_bit(image: Image.Image) -> bool:
    """Whether the file has 16 bits per channel. Pillow decodes only gray ones of these to their full depth."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 16 in image.tag_v2.get(ExifTags.Base.BitsPerSample, ())
    return image.mode.startswith("I;16") or any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _vips(path: Path) -> ModuleType:
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise InputError(f"{path}: 16-bit images need libvips; pip install 'aict_hf[16bit]'") from error
    return pyvips


def _decode_sixteen_bit(path: Path) -> np.ndarray:
    pyvips = _vips(path)
    try:
        image = pyvips.Image.new_from_file(str(path), fail_on="error", revalidate=True).autorot()
        pixels = image.numpy()
    except pyvips.Error as error:
        raise InputError(f"{path}: cannot be decoded ({one_line(error)}); is the file complete?") from error
    if image.format != "ushort" or image.interpretation == "cmyk" or image.bands > 4:
        raise InputError(
            f"{path}: has {image.bands} bands of {image.format} ({image.interpretation}); expected 16-bit gray or RGB"
        )
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _encode_sixteen_bit(path: Path, pixels: np.ndarray, icc_profile: bytes | None, source: ImageFile) -> None:
    pyvips = _vips(path)
    is_tiff = path.suffix.startswith(".tif")
    if pixels.ndim == 3 and pixels.shape[2] == 2 and is_tiff:  # few programs read gray and alpha
        pixels = pixels[..., [0, 0, 0, 1]]
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    image = pyvips.Image.new_from_array(pixels, interpretation="grey16" if bands < 3 else "rgb16").copy()
    if icc_profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc_profile)
    options: dict[str, Any] = {}
    if is_tiff:
        kind = source.encoding.options_for("TIFF")
        options = {"compression": _VIPS_COMPRESSION.get(kind["compression"], "deflate")}
        if "tiffinfo" in kind:
            options["predictor"] = "horizontal"
        if source.metadata.dpi:
            across, down = source.metadata.dpi
            options |= {"xres": across / 25.4, "yres": down / 25.4, "resunit": "inch"}
    try:
        image.write_to_file(str(path), **options)
    except pyvips.Error as error:
        raise OSError(one_line(error)) from error


__all__ = [
    "MAX_JPEG_SIDE",
    "OUTPUT_FORMATS",
    "ImageFile",
    "check_pixel_count",
    "in_profile",
    "input_suffix",
    "not_kept",
    "open_lazily",
    "orientation",
    "output_format",
    "read_file_facts",
    "read_image",
    "upright_size",
    "what_is_lost",
    "write_image",
]
