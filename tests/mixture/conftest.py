"""One thread, as the tests' problems are too small to share; a seed and a region with gaps."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def region(generator):
    region = torch.randint(0, 3, (9, 8, 3), generator=generator)
    region[0], region[:, 0] = 0, 0
    return region
