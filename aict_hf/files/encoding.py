"""How a file is compressed, in the options of Pillow's `save`, so that a result is compressed like its input."""

from dataclasses import dataclass, field
from typing import Any, BinaryIO

from PIL import ExifTags, Image, JpegImagePlugin

# What is written where the input has another format. JPEG keeps the full resolution of the colours.
DEFAULTS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG2000": {},
}
_LOSSLESS_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd")
_AVIF_SAMPLING = {0: "4:4:4", 2: "4:2:2", 3: "4:2:0"}  # by the bits chroma_subsampling_x and _y
HEADER = 1 << 16  # bytes in which the boxes of AVIF and JPEG 2000 files describe their compression


@dataclass(frozen=True)
class Encoding:
    """How a file was compressed.

    Attributes:
        format: Pillow's name of the file's format; "JPEG" for MPO.
        options: options for `Image.save` in that format.
    """

    format: str
    options: dict[str, Any] = field(default_factory=dict)

    def options_for(self, format_name: str) -> dict[str, Any]:
        """Options for a file of a format: those of the input if it has the same format, else the defaults."""
        return dict(self.options if format_name == self.format else DEFAULTS[format_name])


def encoding_of(image: Image.Image, stream: BinaryIO, *, turned: bool) -> Encoding:
    """Read how a file is compressed.

    Args:
        image: the opened file.
        stream: its bytes.
        turned: whether the picture lies on its side, so that its rows become columns.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return Encoding("JPEG", _jpeg_options(image, turned))
    format_name = image.format or ""
    options = dict(DEFAULTS.get(format_name, {}))
    if format_name == "WEBP" and _holds_chunk(stream, b"VP8L"):
        options = {"lossless": True, "exact": True}  # exact: also the colours under full transparency
    elif format_name == "TIFF":
        options = _tiff_options(image)
    elif format_name in ("AVIF", "JPEG2000"):
        stream.seek(0)
        header = stream.read(HEADER)
        if format_name == "AVIF" and (start := header.find(b"av1C")) >= 0 and start + 7 <= len(header):
            options["subsampling"] = _AVIF_SAMPLING.get(header[start + 6] >> 2 & 3, "4:4:4")
        if format_name == "JPEG2000" and (start := header.find(b"\xff\x52")) >= 0 and start + 13 < len(header):
            options["irreversible"] = header[start + 13] == 0
    return Encoding(format_name, options)


def _jpeg_options(image: JpegImagePlugin.JpegImageFile, turned: bool) -> dict[str, Any]:
    """The tables, sampling and scan order of a JPEG, which `quality="keep"` reads from open files alone."""
    progressive = bool(image.info.get("progressive"))
    numbers = [component[3] for component in image.layer]
    if len(numbers) not in (1, 3) or not set(numbers) <= set(image.quantization):
        return DEFAULTS["JPEG"] | {"progressive": progressive}
    while len(numbers) > 1 and numbers[-1] == numbers[-2]:
        numbers.pop()  # further components use the last table
    tables = [list(image.quantization[number]) for number in numbers]
    sampling = JpegImagePlugin.get_sampling(image)
    if turned:
        tables = [[table[8 * column + row] for row in range(8) for column in range(8)] for table in tables]
        sampling = 0 if sampling == 1 else sampling  # what was halved across would be halved down
    return {
        "qtables": tables,
        "subsampling": max(0, sampling),  # Pillow writes no others; the full resolution loses nothing
        "progressive": progressive,
        "keep_rgb": image.info.get("adobe_transform") == 0 and len(image.layer) == 3,
    }


def _tiff_options(image: Image.Image) -> dict[str, Any]:
    """The compression of a TIFF; deflate for those that hold only black and white."""
    name = image.info.get("compression", "raw")
    name = {"tiff_deflate": "tiff_adobe_deflate", "tiff_jpeg": "jpeg"}.get(name, name)
    if name == "jpeg":
        return {"compression": "jpeg", "quality": 95}
    if name not in _LOSSLESS_TIFF:
        return DEFAULTS["TIFF"]
    predictor = image.tag_v2.get(PREDICTOR, 1)  # type: ignore[attr-defined]
    return {"compression": name} | ({"tiffinfo": {PREDICTOR: 2}} if predictor == 2 else {})


def _holds_chunk(stream: BinaryIO, kind: bytes) -> bool:
    """Whether a RIFF file has a chunk of a kind."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        if head[:4] == kind:
            return True
        length = int.from_bytes(head[4:], "little")
        stream.seek(length + length % 2, 1)
    return False


PREDICTOR = ExifTags.Base.Predictor

__all__ = ["DEFAULTS", "Encoding", "encoding_of"]
