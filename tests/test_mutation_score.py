import mutation_score as script


def test_a_sample_is_drawn_from_what_matches_and_is_the_same_again():
    names = [f"mrigmm.{folder}.em.x_fit__mutmut_{i}" for folder in ("mixture", "data") for i in range(50)]
    found = script.drawn(names, ["mrigmm.mixture.*"], 20, 1)
    assert len(set(found)) == 20
    assert all(name.startswith("mrigmm.mixture.") for name in found)
    assert found == script.drawn(reversed(names), ["mrigmm.mixture.*"], 20, 1)
    assert found != script.drawn(names, ["mrigmm.mixture.*"], 20, 2)
    assert len(script.drawn(names, ["*"], None, 1)) == 100
    assert len(script.drawn(names, ["*.data.*"], 60, 1)) == 50


def test_the_score_by_hand():
    """8 of 10 noticed, one of them by a test without end; Wilson: 0.9433 at most."""
    names = [f"mrigmm.mixture.{'em' if i < 4 else 'potts'}.x_fit__mutmut_{i}" for i in range(10)]
    outcomes = ["killed"] * 3 + ["survived"] + ["timed out"] + ["killed"] * 4 + ["survived"]
    text = script.table(dict(zip(names, outcomes, strict=True)))
    assert "| mrigmm.mixture.em | 4 | 3 | 1 | 0 |" in text
    assert "| mrigmm.mixture.potts | 6 | 4 | 1 | 1 |" in text
    assert "| all | 10 | 7 | 2 | 1 |" in text
    assert "80.0 % (49.0 to 94.3)" in text
