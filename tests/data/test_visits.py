import pytest

from mrigmm.data.visits import in_order, visit_of


@pytest.mark.parametrize(
    ("study", "found"),
    [
        ("p01_acute", ("p01", "acute")),
        ("p01-follow-up", ("p01", "follow-up")),
        ("sub-01_ses-02", ("sub-01", "ses-02")),
        ("001_M12", ("001", "M12")),
        ("p_3_week6", ("p_3", "week6")),
        ("case_01", None),
        ("acute", None),
    ],
)
def test_ids(study, found):
    assert visit_of(study) == found


@pytest.mark.parametrize(
    ("visits", "order"),
    [
        (("M12", "D8", "W6"), [1, 2, 0]),
        (("chronic", "acute"), [1, 0]),
        (("10", "9"), [1, 0]),
        (("ses-02", "ses-1", "baseline"), [2, 1, 0]),
        (("2024-05-31", "2023-12-01"), [1, 0]),
        (("month 6", "day 3"), [1, 0]),
        (("D7", "W1"), None),  # at the same time
        (("1", "D8"), None),
        (("left", "right"), None),
        (("acute", "baseline"), None),
    ],
)
def test_order(visits, order):
    assert in_order(dict(enumerate(visits))) == order
