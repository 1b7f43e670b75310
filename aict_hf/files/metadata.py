"""What files say about their pictures besides pixels, profile and EXIF: read it, write it, and name what is lost."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin

MAX_SEGMENT = 65533  # bytes in a segment of a JPEG
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_IPTC, _COPYRIGHT = 0x0404, 0x040A
_THUMBNAILS = (0x0409, 0x040C)
_PNG_COLORS = (b"cICP", b"mDCV", b"cLLI", b"cHRM", b"gAMA", b"sRGB")  # also what hides behind an ICC profile
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# gAMA and cHRM of sRGB, in units of 1/100000.
_USUAL = {b"gAMA": (45455,), b"cHRM": (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)}
_LAYERS = 37724  # Photoshop's tag of a TIFF
_EXTRA_SAMPLES = 338  # the TIFF tag with the kinds of the channels after the colours
_JP2_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
# Namespaces of XMP that point to data behind the picture, and their properties that do.
_POINTERS = {
    b"http://ns.adobe.com/hdr-gain-map/1.0/": rb"\w+",
    b"http://ns.google.com/photos/1.0/container/": rb"Directory",
    b"http://ns.google.com/photos/1.0/camera/": rb"(?:MotionPhoto|MicroVideo)\w*",
}
GAIN_MAP = "the gain map (HDR)"
CREDENTIALS = "the content credentials (C2PA), which hold for the unchanged file only"


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture besides pixels, colour profile and EXIF.

    Attributes:
        dpi: pixels per inch, across and down, or None.
        xmp: the XMP packet, or None. Its orientation is upright.
        xmp_extension: segments of a JPEG that continue the XMP packet.
        comment: the comment of a JPEG, or None.
        photoshop: Photoshop's image resources, among them the IPTC caption, without thumbnails; or None.
        chunks: kind and content of the chunks of a PNG for texts and colour space.
        left_out: what the file holds beside its picture that was not read, in words.
    """

    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    xmp_extension: tuple[bytes, ...] = ()
    comment: bytes | None = None
    photoshop: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    left_out: tuple[str, ...] = ()

    def lost_in(self, format_name: str) -> list[str]:
        """What a file of a format (Pillow's name) cannot hold, and what was not read, in words."""
        lost = list(self.left_out)
        if self.dpi and format_name == "JPEG2000":
            lost.append("the resolution (DPI)")
        if self.xmp and (format_name == "JPEG2000" or (format_name == "JPEG" and not self._xmp_fits_jpeg)):
            lost.append("XMP")
        elif self.xmp_extension and format_name != "JPEG":
            lost.append("the second part of XMP")
        if self.comment and format_name not in ("JPEG", "PNG", "JPEG2000"):
            lost.append("the comment")
        if self.photoshop and format_name not in ("JPEG", "TIFF"):
            lost.append("IPTC and Photoshop's resources")
        if format_name != "PNG":
            texts = sorted(
                {data.partition(b"\0")[0].decode("latin-1") for kind, data in self.chunks if kind in _PNG_TEXTS}
            )
            if texts:
                lost.append(f"the PNG texts ({', '.join(texts)})")
            if colors := self._unusual_colors():
                lost.append(f"the colour space of the PNG ({', '.join(colors)}), so that all colours look different")
        return lost

    @property
    def _xmp_fits_jpeg(self) -> bool:
        return len(self.xmp or b"") <= MAX_SEGMENT - len(_XMP)

    def _unusual_colors(self) -> list[str]:
        """Names of the PNG chunks that set a colour space other than sRGB."""
        chunks = dict(self.chunks)
        if b"cICP" in chunks:
            return [] if chunks[b"cICP"][:2] in (b"\1\1", b"\1\x0d") else ["cICP"]
        if b"sRGB" in chunks:
            return []
        return [
            kind.decode() for kind, usual in _USUAL.items() if kind in chunks and not _is_close(chunks[kind], usual)
        ]

    def jpeg_segments(self) -> bytes:
        """The segments of a JPEG for XMP and Photoshop's resources."""
        segments = []
        if self.xmp and self._xmp_fits_jpeg:
            segments.append((0xE1, _XMP + self.xmp))
            segments += [(0xE1, part) for part in self.xmp_extension]
        room = MAX_SEGMENT - len(_PHOTOSHOP)
        resources = self.photoshop or b""
        for start in range(0, len(resources), room):
            segments.append((0xED, _PHOTOSHOP + resources[start : start + room]))
        return b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)

    def tiff_blocks(self) -> dict[int, bytes]:
        """Tags and content of the blocks of a TIFF that are not EXIF."""
        blocks: dict[int, bytes] = {}
        if self.xmp:
            blocks[ExifTags.Base.XMLPacket] = self.xmp
        if self.photoshop:
            blocks[ExifTags.Base.ImageResources] = self.photoshop
            captions = [data for number, _, data in _resources(self.photoshop) if number == _IPTC]
            if captions:
                blocks[ExifTags.Base.IPTCNAA] = captions[0]
        return blocks

    def exif_with_dpi(self, exif: bytes) -> bytes:
        """An EXIF block with the resolution, for formats that have no field of their own for it."""
        tags = Image.Exif()
        tags.load(exif)
        if not self.dpi or ExifTags.Base.XResolution in tags:
            return exif
        tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = self.dpi
        tags[ExifTags.Base.ResolutionUnit] = 2
        return tags.tobytes()

    def add_to_png(self, path: Path, exif: bytes, *, has_profile: bool) -> None:
        """Put resolution, texts, EXIF, XMP and colour space into a PNG."""
        chunks = [(kind, data) for kind, data in self.chunks if not (kind == b"sRGB" and has_profile)]
        if self.dpi:
            across, down = (round(value / 0.0254) for value in self.dpi)
            chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
        if self.comment and not any(data.startswith(b"Comment\0") for _, data in chunks):
            text = self.comment.decode("utf-8", "replace").rstrip("\0").encode()
            chunks.append((b"iTXt", b"Comment\0\0\0\0\0" + text))
        if self.xmp:
            chunks.append((b"iTXt", _PNG_XMP + bytes(4) + self.xmp))
        if exif:
            chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
        with path.open("rb") as stream:
            written = list(_png_chunks(stream))
        with path.open("r+b") as stream:
            stream.seek(8)
            after_header = [
                *written[:1],
                *chunks,
                *[chunk for chunk in written[1:] if chunk[0] not in (b"pHYs", b"eXIf")],  # libvips makes them up
            ]
            for kind, data in after_header:
                stream.write(struct.pack(">I", len(data)) + kind + data)
                stream.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
            stream.truncate()


def read_metadata(image: Image.Image, stream: BinaryIO, *, turned: bool, upright: bool) -> Metadata:
    """Read what a file says about its picture.

    Args:
        image: the opened file.
        stream: its bytes.
        turned: whether the picture lies on its side, so that its rows become columns.
        upright: whether it is upright as stored.
    """
    dpi = _dpi(image)
    xmp = image.info.get("xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    comment = image.info.get("comment")
    comment = comment.encode() if isinstance(comment, str) else comment
    extension: tuple[bytes, ...] = ()
    photoshop = b""
    chunks: list[tuple[bytes, bytes]] = []
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        extension = tuple(data for name, data in image.applist if name == "APP1" and data.startswith(_XMP_EXTENSION))
        parts = [data for name, data in image.applist if name == "APP13" and data.startswith(_PHOTOSHOP)]
        photoshop = b"".join(part[len(_PHOTOSHOP) :] for part in parts)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        xmp = _tag_bytes(image, ExifTags.Base.XMLPacket) or None
        photoshop = _tag_bytes(image, ExifTags.Base.ImageResources)
        caption = _tag_bytes(image, ExifTags.Base.IPTCNAA)
        if caption and not any(number == _IPTC for number, *_ in _resources(photoshop)):
            photoshop += b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(caption)) + caption + bytes(len(caption) % 2)
    elif image.format == "PNG":
        for kind, data in _png_chunks(stream, kinds=(*_PNG_COLORS, *_PNG_TEXTS)):
            if kind == b"iTXt" and data.startswith(_PNG_XMP):
                xmp = _png_text(data)
            else:
                chunks.append((kind, data))
    left_out = _left_out(image, stream, xmp or b"")
    kept = [entry for number, entry, _ in _resources(photoshop) if number not in _THUMBNAILS]
    if not upright:  # paths and guides do not turn with the picture
        kept = [entry for number, entry, _ in _resources(photoshop) if number in (_IPTC, _COPYRIGHT)]
    return Metadata(
        dpi=dpi[::-1] if dpi and turned else dpi,
        xmp=_without_pointers(xmp) if xmp else None,
        xmp_extension=extension,
        comment=comment or None,
        photoshop=b"".join(kept) or None,
        chunks=tuple(chunks),
        left_out=tuple(left_out),
    )


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch as the file gives them; Pillow makes them up for some files that do not."""
    info = image.info
    has_field = image.format != "TIFF" and (image.format not in ("JPEG", "MPO") or info.get("jfif_unit") in (1, 2))
    dpi = info.get("dpi") if has_field else None
    try:
        if not dpi:
            tags = image.getexif()
            scale = {2: 1.0, 3: 2.54}[tags.get(ExifTags.Base.ResolutionUnit, 2)]
            dpi = tuple(tags[tag] * scale for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
        across, down = (float(value) for value in dpi)
    except Exception:  # many types; a photo with a damaged block can still be read
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def has_unspecified_channel(image: Image.Image) -> bool:
    """Whether a TIFF says that the channel after its colours is no transparency, as saved selections are stored."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    extra = image.tag_v2.get(_EXTRA_SAMPLES, ())
    return (extra[:1] if isinstance(extra, tuple) else (extra,)) == (0,)


def _left_out(image: Image.Image, stream: BinaryIO, xmp: bytes) -> Iterator[str]:
    """What the file holds beside its picture and nothing here keeps, in words."""
    rest = b""
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        stream.seek(0)
        content = stream.read()
        first_end = content.find(b"\xff\xd9\xff\xd8")  # behind the first picture
        further = image.format == "MPO" or b"MotionPhoto_Data" in content or first_end >= 0
        rest = content[max(0, first_end) :] if further else b""
    stream.seek(0)
    head = stream.read(1 << 16)
    gain_map = (
        any(word in part for part in (xmp, rest) for word in (b"hdrgm:", b"hdrgainmap", b"urn:iso:std:iso:ts:21496"))
        or any(data.startswith(b"urn:iso:std:iso:ts:21496") for _, data in segments)
        or (image.format == "AVIF" and b"tmap" in head)
        or any("hdrgainmap" in str(name) for name in image.info.get("aux", ()))  # pillow_heif
    )
    if gain_map:
        yield GAIN_MAP
    elif image.format == "MPO" and not _only_previews(image):
        yield "the further pictures of the file (MPO)"
    if image.info.get("depth_images"):  # pillow_heif
        yield "the depth map"
    if re.search(rb"(?:MotionPhoto|MicroVideo)(?:=[\"']|>)1", xmp) or b"MotionPhoto_Data" in rest:
        yield "the video (motion photo)"
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _LAYERS in image.tag_v2:
        yield "the layers"
    if has_unspecified_channel(image):
        yield "a channel that is neither a colour nor transparency"
    if any(name == "APP11" and b"c2pa" in data for name, data in segments) or (
        image.format == "PNG" and any(True for _ in _png_chunks(stream, kinds=(b"caBX",)))
    ):
        yield CREDENTIALS
    if image.format == "AVIF":
        start = head.find(b"colrnclx")
        primaries, transfer, matrix = struct.unpack(">HHH", head[start + 8 : start + 14]) if start >= 0 else (1, 13, 6)
        if not image.info.get("icc_profile") and (primaries not in (1, 2) or transfer not in (1, 2, 6, 13)):
            yield f"the colour space (CICP {primaries}/{transfer}), so that all colours look different"
        if start >= 0 and matrix == 0:
            yield "the lossless compression of the AVIF"
        depth = head.find(b"av1C")
        if depth >= 0 and head[depth + 6 : depth + 7] and head[depth + 6] & 0x40:
            yield "more than 8 bits a channel"
    if image.format == "JPEG2000":
        start = head.find(b"\xff\x4f\xff\x51")
        if start >= 0 and len(head) > start + 42 and (head[start + 42] & 0x7F) > 7 and not image.mode.startswith("I"):
            yield "more than 8 bits a channel"
        if b"colr\2" in head:
            yield "the colour profile of the JPEG 2000 file"
        if any(word in head for word in (b"JpgTiffExif->JP2", _JP2_XMP)):
            yield "EXIF and XMP of the JPEG 2000 file"


def _only_previews(image: Image.Image) -> bool:
    """Whether the further pictures of an MPO are smaller copies of the first."""
    kinds = [str(entry["Attribute"]["MPType"]) for entry in image.mpinfo[0xB002][1:]]  # type: ignore[attr-defined]
    return all(kind.startswith("Large Thumbnail") for kind in kinds)


def _without_pointers(xmp: bytes) -> bytes:
    """An XMP packet that calls the picture upright, without what points to data that is not kept."""
    xmp = re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)
    for namespace, properties in _POINTERS.items():
        for prefix in re.findall(rb"xmlns:(\w+)\s*=\s*[\"']" + re.escape(namespace), xmp):
            name = prefix + rb":" + properties
            xmp = re.sub(rb"\s" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", xmp)
            xmp = re.sub(rb"<(" + name + rb")(?:\s[^>]*)?(?:/>|(?<!/)>.*?</\1\s*>)", b"", xmp, flags=re.DOTALL)
    return xmp


def _tag_bytes(image: TiffImagePlugin.TiffImageFile, tag: int) -> bytes:
    """The content of a tag of a TIFF as it stands in the file, whatever type the tag gives it."""
    value = image.tag_v2.get(tag, b"")
    if isinstance(value, tuple) and value and isinstance(value[0], bytes):
        value = value[0]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    numbers = value if isinstance(value, tuple) else (value,)
    code = {TiffImagePlugin.TiffTags.LONG: "L", TiffImagePlugin.TiffTags.BYTE: "B"}.get(image.tag_v2.tagtype[tag])
    order = "<" if image.tag_v2.prefix == b"II" else ">"
    return struct.pack(f"{order}{len(numbers)}{code}", *numbers).rstrip(b"\0") if code else b""


def _resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, complete entry and content of each of Photoshop's image resources."""
    at = 0
    while block[at : at + 4] == b"8BIM" and len(block) >= at + 12:
        [number] = struct.unpack(">H", block[at + 4 : at + 6])
        name = block[at + 6] + 1
        start = at + 6 + name + name % 2
        if len(block) < start + 4:
            return
        [length] = struct.unpack(">I", block[start : start + 4])
        end = start + 4 + length
        if len(block) < end:
            return
        yield number, block[at:end] + bytes(length % 2), block[start + 4 : end]
        at = end + length % 2


def _png_chunks(stream: BinaryIO, kinds: tuple[bytes, ...] | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks of a PNG, or of those of some kinds that are not damaged."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kinds is not None and kind not in kinds:
            stream.seek(length + 4, 1)
            continue
        data, checksum = stream.read(length), stream.read(4)
        if kinds is None or checksum == struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))):
            yield kind, data


def _png_text(data: bytes) -> bytes:
    """The text of an iTXt chunk: behind its keyword, two bytes of compression, a language and a translated keyword."""
    _, _, rest = data.partition(b"\0")
    text = rest[2:].split(b"\0", 2)[2]
    if rest[:1] != b"\1":
        return text
    inflate = zlib.decompressobj()
    text = inflate.decompress(text, 1 << 24)
    if inflate.unconsumed_tail:
        raise ValueError("the XMP packet is larger than 16 MiB")
    return text


def _is_close(data: bytes, usual: tuple[int, ...]) -> bool:
    """Whether the numbers of a PNG chunk are close to the usual ones."""
    if len(data) != 4 * len(usual):
        return False
    return all(abs(a - b) <= 500 for a, b in zip(struct.unpack(f">{len(usual)}I", data), usual, strict=True))


__all__ = ["MAX_SEGMENT", "Metadata", "has_unspecified_channel", "read_metadata"]
