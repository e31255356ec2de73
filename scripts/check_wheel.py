"""Check that a built wheel holds every module and data file of the package."""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "mrigmm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    args = parser.parse_args()
    expected = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    missing = sorted(expected - set(zipfile.ZipFile(args.wheel).namelist()))
    if missing:
        sys.exit(f"{args.wheel.name} lacks {len(missing)} of {len(expected)} files: {', '.join(missing)}")
    print(f"{args.wheel.name} holds all {len(expected)} files of the package")


if __name__ == "__main__":
    main()
