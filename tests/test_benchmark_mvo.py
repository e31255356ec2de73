import benchmark_mvo as script


def row(study, true_ml, found_ml, dice, scar):
    return {"study": study, "method": "otsu", "true_ml": true_ml, "found_ml": found_ml, "dice": dice,
            "scar_dice_without": scar[0], "scar_dice_with": scar[1], "true_g": 10.0,
            "infarct_g_without": 8.0, "infarct_g_with": 8.0 + found_ml}  # fmt: skip


def test_studies_with_and_without_cores_are_told_apart():
    rows = [
        row("a", 4.0, 2.0, 0.6, (0.5, 0.7)),
        row("b", 2.0, 0.0, 0.0, (0.6, 0.6)),
        row("c", 0.0, 1.0, 0.0, (0.8, 0.7)),
        row("d", 0.0, 0.0, float("nan"), (0.9, 0.9)),
    ]
    line = script.table({"rows": rows}).splitlines()[2]
    assert line == (
        "| otsu | 2 | 1 | 0.30 | 3.00 | 1.00 | 2 | 1 | 0.50, 1.00 | 0.550 to 0.650 | 0.850 to 0.800 "
        "| -2.0, 2.0 to -1.0, 1.0 | -2.0, 2.0 to -1.5, 1.5 |"
    )


def test_it_runs():
    report = script.run(["otsu"], studies=2, seed=1000, preset="small")
    assert {row["study"] for row in report["rows"]} == {"study_000", "study_001"}
    assert script.table(report).splitlines()[2].startswith("| otsu |")
