import benchmark_classes as script


def test_bias_and_error_with_and_without_the_class():
    rows = [
        {"study": study, "sequences": "LGE", "classes": n, "method": "map-em", "infarct_g": g, "true_g": 10.0,
         "dice_scar": n / 8, "dice_edema": 0.25 if n == 4 else 0.0}
        for study, n, g in (("a", 4, 12.0), ("b", 4, 6.0), ("a", 3, 30.0), ("b", 3, 10.0))
    ]  # fmt: skip
    assert script.table({"rows": rows}).splitlines()[2] == (
        "| LGE | map-em | 10.0 | -1.0, 3.0 | +10.0, 10.0 | 0.50, 0.38 | 0.25 |"
    )


def test_it_runs():
    report = script.run(["map-em"], studies=1, seed=1, preset="small", region="cavity-wall")
    assert [row["classes"] for row in report["rows"]] == [4, 3] * 4
    assert len(script.table(report).splitlines()) == 2 + 4
