import numpy as np
import pytest

from mrigmm.data.dicom.scan import scan
from mrigmm.data.dicom.series import group_studies, tilt_degrees
from mrigmm.jobs.common import no_progress

from .files import directions, image, save, series, voxels
from .frames import frame


def studies(folder):
    return group_studies(scan(folder, no_progress).frames)


def parts(folder):
    ((study,), problems) = studies(folder)
    assert problems == []
    return study.parts


def test_studies_and_series(tmp_path):
    series(tmp_path / "a", patient="B", study=2, series=7)
    series(tmp_path / "b", patient="A", study=1, series=11)
    series(tmp_path / "c", patient="A", study=1, series=3)
    found, problems = studies(tmp_path)
    assert problems == []
    assert [(study.patient_id, study.uid[-1]) for study in found] == [("A", "1"), ("B", "2")]
    assert [part.header.number for part in found[0].parts] == ["3", "11"]  # 3 before 11
    assert [len(part.slices) for part in found[0].parts] == [3, 3]


def test_a_study_of_two_patients_is_refused(tmp_path):
    series(tmp_path / "a", patient="A")
    series(tmp_path / "b", patient="B", series=2)
    series(tmp_path / "c", patient="C", study=2)
    found, (problem,) = studies(tmp_path)
    assert [study.patient_id for study in found] == ["C"]
    assert problem.what == "a study has the images of several patients"


def test_slices_are_sorted_by_position(tmp_path):
    series(tmp_path, numbers=[3, 1, 2])
    (part,) = parts(tmp_path)
    assert [images[0].instance for images in part.slices] == [3, 1, 2]


def test_headers_with_few_digits_are_one_stack(tmp_path):
    row, column, _ = directions()
    for k in range(3):
        jitter = 1e-5 * k
        save(
            image(
                voxels()[k],
                number=k + 1,
                height_mm=10.0 * k,
                ImageOrientationPatient=[
                    float(v) for v in [*np.round(row + jitter, 6), *np.round(column, 6)]
                ],
            ),
            tmp_path / f"{k}.dcm",
        )
    (part,) = parts(tmp_path)
    assert len(part.slices) == 3


def test_psir_and_magnitude_in_one_series(tmp_path):
    series(tmp_path / "m", numbers=[1, 3, 5])
    series(tmp_path / "r", numbers=[2, 4, 6], ImageType=["ORIGINAL", "PRIMARY", "R", "NORM"])
    magnitude, psir = parts(tmp_path)
    assert (magnitude.component, psir.component) == ("magnitude", "PSIR")
    assert (magnitude.key[-2:], psir.key[-2:]) == ("#1", "#2")
    assert [len(part.slices) for part in (magnitude, psir)] == [3, 3]
    assert not magnitude.cine


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("LGE_PSIR", "PSIR"),
        ("LGE_PSIR_MAG", "magnitude"),
        ("LGE", "magnitude"),
        ("PS:SAX MDE", "PSIR"),
        ("2D PSMDE SAX", "PSIR"),
        ("SAX MDE APS:2", "magnitude"),
    ],
)
def test_the_name_says_psir_where_the_image_type_does_not(tmp_path, description, expected):
    series(tmp_path, description=description)
    (part,) = parts(tmp_path)
    assert part.component == expected


def test_phase_images(tmp_path):
    series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "P"])
    assert parts(tmp_path)[0].component == "phase"


def test_corrections_of_an_image_do_not_split_a_series(tmp_path):
    for k, extra in enumerate((["NORM"], ["NORM", "DIS2D"], [])):
        series(
            tmp_path,
            voxels()[[k]],
            heights_mm=[10.0 * k],
            numbers=[k + 1],
            ImageType=["ORIGINAL", "PRIMARY", "M", *extra],
        )
    assert len(parts(tmp_path)) == 1


def test_views_of_one_series_are_split(tmp_path):
    series(tmp_path)
    row, _, normal = directions()
    turned = [float(v) for v in (*row, *normal)]
    save(image(voxels()[0], number=9, ImageOrientationPatient=turned), tmp_path / "long.dcm")
    assert sorted(len(part.slices) for part in parts(tmp_path)) == [1, 3]


def write_cine(folder, times_ms, tag="TriggerTime", **options):
    for k, time in enumerate(times_ms):
        series(
            folder,
            voxels(k),
            numbers=[100 * (k + 1) + z for z in range(3)],
            **{tag: time, "description": "cine_sax", **options},
        )


def test_cine(tmp_path):
    write_cine(tmp_path, [90.0, 0.0, 30.0, 60.0])
    (part,) = parts(tmp_path)
    assert part.cine
    assert part.phases == 4
    assert [frame.trigger_time_ms for frame in part.slices[0]] == [0.0, 30.0, 60.0, 90.0]


def test_original_and_derived_images(tmp_path):
    series(tmp_path, ImageType=["DERIVED", "SECONDARY", "M"])
    series(tmp_path, series=2)
    series(tmp_path, series=3, ImageType=None)
    assert [part.first.original for part in parts(tmp_path)] == [False, True, True]


def test_missing_slices_are_counted(tmp_path):
    series(tmp_path, voxels(shape=(4, 6, 5)), heights_mm=[0.0, 10.0, 40.0, 50.0])
    series(tmp_path, heights_mm=[0.0, 10.0, 23.0], series=2)
    regular, irregular = parts(tmp_path)
    assert (regular.missing, irregular.missing) == (2, 0)
    assert regular.describe().startswith("4 slices (2 missing) of 5 x 6 pixels")


def test_the_angle_between_planes():
    flat = frame()
    steep = frame(row=(1.0, 0.0, 0.0), column=(0.0, 0.5, -(0.75**0.5)))
    backwards = frame(row=(0.0, 1.0, 0.0), column=(1.0, 0.0, 0.0))
    assert tilt_degrees(flat, steep) == pytest.approx(60)
    assert tilt_degrees(flat, backwards) == pytest.approx(0)


def test_few_repetitions_are_no_cine(tmp_path):
    write_cine(tmp_path, [0.0, 30.0, 60.0])
    assert not parts(tmp_path)[0].cine


def test_echoes_and_inversion_times_are_split_where_slices_repeat(tmp_path):
    write_cine(tmp_path, [10.0, 20.0], tag="EchoTime")
    assert [part.first.echo_time_ms for part in parts(tmp_path)] == [10.0, 20.0]


def test_an_inversion_time_that_drifts_does_not_split_a_stack(tmp_path):
    for k in range(3):
        series(tmp_path, voxels()[[k]], heights_mm=[10.0 * k], numbers=[k + 1], InversionTime=280.0 + k)
    assert len(parts(tmp_path)) == 1
