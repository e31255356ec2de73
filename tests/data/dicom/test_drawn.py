from mrigmm.data.dicom.drawn import REGIONS, drawn_maps


def test_maps_by_study_id(tmp_path):
    (tmp_path / REGIONS).mkdir()
    for name in (
        "A.nii.gz",
        "B.nii",
        "B.nii.gz",
        "C.nii",
        "d5.nii.gz",
        "old.nii.gz",
        "E.NII.GZ",
        "notes.txt",
        ".A.nii",
    ):
        (tmp_path / REGIONS / name).write_bytes(b"")
    found, problems = drawn_maps(tmp_path, REGIONS, ["A", "B", "C", "D5", "E"])
    assert found == {"A": "regions/A.nii.gz", "B": "regions/B.nii.gz", "C": "regions/C.nii"}
    assert [problem.what for problem in problems] == [
        "regions/B.nii is not used: the study has another map there",
        "regions/E.NII.GZ is not used: its ending is not in lower case",
        "regions/d5.nii.gz is not used: no study has this id; did you mean D5?",
        "regions/old.nii.gz is not used: no study has this id",
    ]
    assert {problem.severity for problem in problems} == {"warning"}


def test_no_folder(tmp_path):
    assert drawn_maps(tmp_path, REGIONS, ["A"]) == ({}, [])
