"""Draw one predicted study as a picture: its sequences, the label map and, if given, the reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from mrigmm.jobs.report import study_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("predictions", type=Path, help="folder that mrigmm predict wrote")
    parser.add_argument("study", help="study id")
    parser.add_argument("-o", "--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--reference", type=Path, help="reference label map with the ids of the prediction")
    args = parser.parse_args()
    figure = study_figure(args.predictions, args.study, reference=args.reference)
    if figure is None:
        parser.error("the images that were segmented are no longer where they were")
    args.out.write_bytes(figure)
    print(args.out)


if __name__ == "__main__":
    main()
