"""Pack real cine slices with their endocardium masks for the generator of training slices.

Reads the layout of the Sunnybrook Cardiac Data as PNG (`images/`, `endocardium/`), leaves out the
patients that the docs' tables are measured on, and writes `mrigmm/resources/sunnybrook_cc0.zip`
(WebP images, PNG masks; CC0 1.0).
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path

from PIL import Image

# The patients of docs/results/networks.md: those with an epicardial contour in the HF-I stacks, and
# eleven others.
HELD_OUT = (
    *("SC-HF-I-01", "SC-HF-I-02", "SC-HF-I-04", "SC-HF-I-05"),
    *("SC-HF-NI-03", "SC-HF-NI-11", "SC-HF-NI-14", "SC-HF-NI-33"),
    *("SC-HYP-01", "SC-HYP-07", "SC-HYP-10", "SC-HYP-37"),
    *("SC-N-02", "SC-N-06", "SC-N-10"),
)
QUALITY = 70
_NOTICE = (
    "Sunnybrook Cardiac Data (2009 LV segmentation challenge), cine bSSFP slices and endocardial contours.\n"
    "CC0 1.0 / public domain. Please cite: Radau et al., MIDAS Journal 2009.\n"
    "Changes: 8-bit PNG of a public copy re-encoded as WebP; some patients left out.\n"
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def main() -> None:
    """Write the pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with images/ and endocardium/")
    parser.add_argument("-o", "--out", type=Path, default=Path("mrigmm/resources/sunnybrook_cc0.zip"))
    options = parser.parse_args()
    chosen = [
        file
        for file in sorted((options.source / "images").glob("*.png"))
        if file.name.split("-IM-")[0] not in HELD_OUT
    ]
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_STORED) as pack:
        # fixed dates, so that the same files give the same bytes
        def put(name: str, content: bytes) -> None:
            pack.writestr(zipfile.ZipInfo(name, (2009, 1, 1, 0, 0, 0)), content)

        put("NOTICE.txt", _NOTICE.encode())
        for file in chosen:
            put(
                f"images/{file.stem}.webp",
                encoded(Image.open(file).convert("L"), "WEBP", quality=QUALITY, method=6),
            )
            mask = Image.open(options.source / "endocardium" / file.name).convert("L")
            put(
                f"endocardium/{file.stem}.png",
                encoded(mask.point(lambda v: 255 * (v > 0)).convert("1"), "PNG", optimize=True),
            )
    print(json.dumps({"slices": len(chosen), "bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
