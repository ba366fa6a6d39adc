"""One image file decoded by Pillow, whatever its kind, and pictures brought to another size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.distill.sources.files import reason, shown
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from PIL import Image

    from kdbench.spec import Array

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What Pillow may decode; its other decoders are not let near a stranger's files."""

PIXELS_LIMIT = 1 << 26
"""No picture has more pixels (8192x8192), so that a small file cannot unpack to all memory."""


def read_picture(path: Path, name: str) -> Array:
    """Decode one image file to (1, h, w) or (3, h, w) uint8; `name` is what messages call it.

    It is turned upright as its EXIF says; 16 bits keep the upper 8; what is transparent lies over black;
    palettes, CMYK and other colours become RGB. Colour profiles are passed over.
    Raises RecipeError for what is no such image, is damaged, too large, or has several frames.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of flaws that do not matter, and of bombs, which have a limit of their own here.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                flat = _upright_and_flat(image)
    except UnidentifiedImageError as fault:
        raise RecipeError(
            f"{shown(name)} is no image that can be read, or a damaged one; expected {', '.join(FORMATS)}.",
            hint="Remove it, or convert it.",
        ) from fault
    except _Refused as fault:
        raise RecipeError(f"The image {shown(name)} {fault}.") from fault
    # Pillow's decoders raise whatever a damaged file makes them trip over.
    except Exception as fault:
        raise RecipeError(
            f"The image {shown(name)} is damaged or cannot be read: {reason(fault)}.",
            hint="Remove it, or get it again.",
        ) from fault
    pixels: Array = np.asarray(flat)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class _Refused(Exception):
    """Why an image is not taken, as a predicate."""


def _upright_and_flat(image: Image.Image) -> Image.Image:
    """Load an opened image and make it 8 bits of grey (L) or colour (RGB)."""
    from PIL import ImageOps

    width, height = image.size
    if not 0 < width * height <= PIXELS_LIMIT:
        raise _Refused(f"has {width}x{height} pixels, more than the limit of {PIXELS_LIMIT}")
    # An MPO is what phones call a JPEG with a preview behind it; the first frame is the picture.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise _Refused(f"has {frames} frames, expected one")
    kind = image.format
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return _eight_bits(upright, kind)
    grey = upright.mode in ("1", "L", "LA", "La")
    if upright.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in upright.info:
        upright = _over_black(upright)
    return upright.convert("L" if grey else "RGB")


def _eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    import numpy as np
    from PIL import Image

    # Pillow gives the 16 bits of a PPM in mode I, which in a TIFF is 32 bits of no known range.
    if not image.mode.startswith("I;16") and (image.mode != "I" or kind not in ("PPM", "PNG")):
        raise _Refused(f"has values of 32 bits (mode {image.mode}), expected 8 or 16")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _over_black(image: Image.Image) -> Image.Image:
    from PIL import Image

    straight = image.convert("LA") if image.mode == "La" else image
    colour = straight.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour)


def resized(picture: Array, size: tuple[int, int], *, crop: bool = False) -> Array:
    """Bring one picture (C, h, w) uint8 to `size`, height and width, by Pillow's bilinear filter.

    The filter widens where it reduces, so that nothing aliases. The picture is stretched where its sides have
    another ratio, or with `crop` cut to that ratio about its middle.
    """
    import numpy as np
    from PIL import Image

    channels, height, width = picture.shape
    if (height, width) == size:
        return picture
    box = (0.0, 0.0, float(width), float(height))
    if crop:
        scale = min(height / size[0], width / size[1])
        across, down = width - scale * size[1], height - scale * size[0]
        box = (across / 2, down / 2, width - across / 2, height - down / 2)
    image = Image.fromarray(picture[0] if channels == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
    pixels = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
