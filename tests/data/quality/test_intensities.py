import numpy as np
import pytest

from mrigmm.data.quality import negative, saturated

RAMP = np.arange(1000, dtype=np.float32)


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (RAMP, None),
        (np.minimum(RAMP, 899), "10.1 %"),  # 899 and the 100 values above it
        (np.minimum(RAMP, 989), "1.1 %"),
        (np.minimum(RAMP, 991), None),  # 0.9 %
        (np.repeat([0, 1, 2, 3], 250).astype(np.float32), None),  # few levels, none of them a peak
        (np.repeat([0, 1], 500).astype(np.float32), None),  # two levels are a mask
        (np.ones(1000, np.float32), None),  # constant: said elsewhere
        (-np.minimum(RAMP, 899), None),  # cut at the lower end
    ],
)
def test_saturated(values, share):
    found = saturated("LGE", values)
    assert (found is None) is (share is None)
    if found:
        assert (found.severity, found.what) == ("warning", "LGE is saturated")
        assert found.got.startswith(share)


def test_negative():
    assert negative("LGE", RAMP) is None
    found = negative("LGE", RAMP - 250)
    assert (found.severity, found.what) == ("note", "LGE has negative intensities")
    assert found.got.startswith("25.0 % of the region; usual in phase-sensitive LGE")
    assert "phase" not in negative("T2", RAMP - 250).got
