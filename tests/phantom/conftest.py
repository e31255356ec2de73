from dataclasses import replace

import pytest

from mrigmm.phantom import PRESETS, simulate_study


@pytest.fixture(scope="session")
def small_config():
    """Quick studies, all with an acute infarct."""
    return replace(PRESETS["small"], healthy_share=0.0)


@pytest.fixture(scope="session")
def small_studies(small_config):
    return [simulate_study(small_config, seed=11, index=index) for index in range(8)]
