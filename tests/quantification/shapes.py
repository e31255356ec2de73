"""Ventricles of simple shape, whose volumes are known from a formula or by counting."""

import numpy as np

from mrigmm.data.geometry import Grid
from mrigmm.quantification.study import Maps

from ..conftest import oblique_affine

IDS = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}


def polar(n, mm):
    """Radius in mm and angle in degrees (0 to 360) of the pixels of an n x n plane around its middle."""
    x, y = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * mm] * 2, indexing="ij")
    return np.hypot(x, y), np.rad2deg(np.arctan2(y, x)) % 360


def tube(n=121, mm=0.8, slices=3, *, endo=20.0, epi=30.0):
    """A cylinder shell: blood within `endo` mm, wall up to `epi` mm; class ids (n, n, slices)."""
    radius, _ = polar(n, mm)
    plane = np.where(radius <= endo, 1, np.where(radius <= epi, 2, 0)).astype(np.uint8)
    return np.repeat(plane[..., None], slices, axis=2)


def maps(labels, spacing_mm=(0.8, 0.8, 8.0), *, affine=None, ids=IDS, **more):
    """Maps on an oblique, non-RAS grid."""
    where = oblique_affine(spacing_mm) if affine is None else affine
    return Maps(labels, ids, Grid(labels.shape, where), **more)
