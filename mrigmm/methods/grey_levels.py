"""Two groups of grey levels."""

from __future__ import annotations

from skimage.filters import threshold_otsu
from torch import Tensor

_BINS = 256


def otsu_threshold(values: Tensor) -> float:
    """Otsu's threshold (1979): at or below it is the darker group.

    scikit-image gives the centre of the darker group's last bin, above which some of that bin's own
    voxels lie. The bin's upper edge divides the groups as its histogram did.

    Args:
        values: (N,) N >= 1.
    """
    x = values.double().numpy()
    half_bin = float(x.max() - x.min()) / (2 * _BINS)
    return float(threshold_otsu(x, nbins=_BINS)) + half_bin
