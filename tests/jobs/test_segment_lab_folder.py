"""A folder as a laboratory keeps it, and one command without an option."""

import json

import nibabel as nib
import numpy as np
import pytest

from mrigmm.labels import MYOCARDIUM_G_PER_ML, class_ids
from mrigmm.phantom import PRESETS, simulate_study

# What the ventricle that the networks find, and infarcts of a few slices of 10 mm, leave open.
ERROR_G = 10.0
IDS = class_ids(("blood", "myocardium", "edema", "scar"))


def save(path, data, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.rint(data).astype(np.int16), affine)
    image.set_qform(affine, code=1)
    nib.save(image, path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Folder of six patients, and the infarct of each in g."""
    folder = tmp_path_factory.mktemp("lab") / "Herz MRT 2024"
    names = ("P01", "p02 ", "Müller, A", "P04", "05", "PAT_6")
    truth = {}
    for index, name in enumerate(names):
        study = simulate_study(PRESETS["coarse" if index == 5 else "small"], seed=11, index=index)
        images = {sequence: (data, study.affines[sequence]) for sequence, data in study.sequences.items()}
        lge, cine = images["LGE"], images["bSSFP"]
        place = folder / name.strip()
        if index == 0:  # a cine whose first frame is end-diastole
            data, affine = cine
            save(place / "SSFP_4D.nii.gz", np.stack([data, 0.9 * data, 0.8 * data], axis=-1), affine)
            save(place / "LGE.nii.gz", *lge)
            save(place / "t2w.nii", *images["T2"])
        elif index == 1:  # no T2
            save(place / "p02_late_gad_SAX.nii", *lge)
            save(place / "p02_cine_sa.nii.gz", *cine)
        elif index == 3:  # phase-sensitive beside magnitude
            save(place / "IM_0301_PSIR.nii.gz", lge[0] - np.median(lge[0]), lge[1])
            save(place / "IM_0302_MAG_LGE.nii.gz", *lge)
            save(place / "IM_0201_T2-STIR.nii.gz", *images["T2"])
            save(place / "IM_0101_TRUFI.nii.gz", *cine)
        else:
            save(place / "nifti" / "DE.nii.gz", *lge)
            save(place / "nifti" / "T2_prep.nii.gz", *images["T2"])
            save(place / "nifti" / "C0.nii.gz", *cine)
        if index in (2, 4):
            save(place / ("LV_mask.nii.gz" if index == 2 else "seg/lv.nii"), study.region, lge[1])
        voxel_ml = abs(np.linalg.det(lge[1][:3, :3])) / 1000
        truth[name.strip()] = float((study.label == IDS["scar"]).sum()) * voxel_ml * MYOCARDIUM_G_PER_ML
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("LGE of all")
    return folder, truth


@pytest.mark.gate
def test_every_number_with_one_command_and_no_option(lab, tmp_path, cli):
    folder, truth = lab
    done = cli("segment", folder, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    shown = done.out
    assert all(name in shown for name in truth)
    assert "magnitude before PSIR" in done.err
    assert "of the 3 frames of P01/SSFP_4D.nii.gz the one at end-diastole is taken" in done.err
    assert "look at p02: edema cannot be told reliably without T2" in shown

    # The finished studies are kept, and the numbers are those of a program, too.
    again = cli("segment", folder, "-o", tmp_path / "out", "--resume", "--json")
    assert again.code == 0, again.err
    answers = json.loads(again.out)["answers"]
    assert answers.keys() == truth.keys()
    for name, infarct_g in truth.items():
        assert abs(answers[name]["infarct_g"] - infarct_g) < ERROR_G, (name, answers[name], infarct_g)
        assert answers[name]["lv_mass_g"] > 40
        assert 0 <= answers[name]["infarct_probability"] <= 1
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    given = {study["id"] for study in content["test"] if "region" in study}
    assert given == {"Müller, A", "05"}
