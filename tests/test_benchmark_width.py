import benchmark_width as script
import pytest


def row(scar):
    return {
        f"s{i}": {"dice/scar": value, "dice/edema": 0.5, "dice/pathology": 0.7} for i, value in scar.items()
    }


STUDIES = {
    "map-em": row({0: 0.1, 1: 0.1}),
    "w4, seed 1": row({0: 0.5, 1: 0.6}),
    "w4, seed 2": row({0: 0.7, 1: 0.6}),
    "w16, seed 1": row({0: 0.5, 1: 0.5}),
}


def test_seeds_are_averaged_study_by_study():
    means = script.seed_means(STUDIES, "w4")
    assert [means[study]["dice/scar"] for study in means] == pytest.approx([0.6, 0.6])
    with pytest.raises(SystemExit, match="no row 'w8'"):
        script.seed_means(STUDIES, "w8")


def test_a_width_is_compared_with_the_reference_in_every_protocol():
    healthy = {"volume_ml/scar": 2.0, "volume_ml/edema": 3.0}
    benchmark = {
        "protocols": {
            "lv": {"studies": STUDIES},
            "healthy": {
                "studies": {
                    "w4, seed 1": {"h0": {**healthy, "volume_ml/scar": 1.5}, "h1": healthy},
                    "w16, seed 1": {"h0": healthy, "h1": healthy},
                }
            },
        }
    }
    cells = script.differences(benchmark, "w4", "w16")
    assert script.heading(benchmark) == [
        *("lv: edema", "lv: scar", "lv: pathology"),
        *("healthy: scar, ml", "healthy: edema, ml"),
    ]
    assert cells[0] == "+0.000 [+0.000, +0.000]"
    assert cells[1].startswith("+0.100 ")
    assert cells[3].startswith("-0.250 ")
