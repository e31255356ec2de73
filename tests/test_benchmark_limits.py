import benchmark_limits as script
import pytest


def test_shares_of_the_limits_by_hand():
    flops_per_ms = 2 * 1024**3 / 10  # 10 ms for the product
    numbers = {
        "ms": {
            "matrix product": 10.0,
            "copy": 2 * 8 * 2**25 / 20e6,  # 20 GB/s
            "exponential": 100 * 2**14 * 1e-6,  # 1 ns each
            "U-Net": 4.0,
            "EM": 1e-6 * 20 * 1000 * 40.0,  # 40 ns per voxel and iteration
        },
        "flops": {"U-Net": flops_per_ms},  # 1 ms at the limit
        "voxels": {"EM": 1000.0},
    }
    text = script.tables(numbers)
    assert "20.0 GB/s, 1.0 ns per exponential" in text
    assert "| U-Net | 4.0 | 0.21 | 25 % |" in text
    # 160 operations at half the rate of 215 GFLOP/s and 5 exponentials; 80 bytes at 20 GB/s
    assert "arithmetic floor, 6.5 ns | memory floor, 4.0 ns" in text
    assert "| EM | 40.0 | 6.2 times | 10.0 times |" in text


def test_operations_of_a_pass_grow_with_the_square_of_the_width():
    (_, narrow), (_, wide) = (script.network_pass(n, slices=1) for n in (4, 8))
    assert wide / narrow == pytest.approx(4, rel=0.1)


@pytest.mark.slow
def test_a_short_measurement(monkeypatch):
    monkeypatch.setattr(script, "MATRIX", 128)
    monkeypatch.setattr(script, "COPY", 1 << 16)
    numbers = script.measured(1, (4,), (500,))
    assert min(numbers["ms"].values()) > 0
    assert "U-Net, 4 filters" in script.tables(numbers)
