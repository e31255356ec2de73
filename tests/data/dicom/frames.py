"""Frames that no file holds, for the tests of what is decided by headers alone."""

from dataclasses import replace

from mrigmm.data.dicom.frames import Frame, SeriesHeader


def frame(description="", **changes):
    header = SeriesHeader("P", "1", "1.1", "1", description, "", "", frozenset(changes.pop("physics", ())))
    header = replace(
        header,
        **{k: changes.pop(k) for k in ("protocol", "sequence_name", "series_uid", "number") if k in changes},
    )
    plain = Frame(
        header=header,
        file="f",
        index=0,
        position_mm=(0.0, 0.0, 0.0),
        row=(1.0, 0.0, 0.0),
        column=(0.0, 1.0, 0.0),
        pixel_mm=(1.5, 1.5),
        shape=(64, 64),
        slice_mm=8.0,
        image_type=("M",),
        echo_time_ms=None,
        inversion_time_ms=None,
        trigger_time_ms=None,
        phase=None,
        acquired="",
        instance=1,
        slope=1.0,
        intercept=0.0,
    )
    return replace(plain, **changes)
