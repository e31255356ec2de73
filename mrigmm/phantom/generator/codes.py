"""Codes of a training pixel: one class, or a set of classes of which it is one."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import SEGMENTER_CLASSES

N_CLASSES = len(SEGMENTER_CLASSES)
BACKGROUND, BLOOD, MYOCARDIUM, EDEMA, SCAR, MVO, RV = range(N_CLASSES)


class Code(IntEnum):
    """Label of a training pixel. The first are classes, the others sets of classes."""

    BACKGROUND = 0
    BLOOD = 1
    MYOCARDIUM = 2
    EDEMA = 3
    SCAR = 4
    MVO = 5
    RV = 6
    OUTSIDE = 7  # outside the left ventricle: background or right ventricle
    NO_SCAR = 8  # wall without scar, where no T2 tells edema from normal wall
    NO_BLOOD = 9  # beside a real cavity whose wall nobody drew
    UNKNOWN = 10


_SETS = {
    Code.OUTSIDE: (BACKGROUND, RV),
    Code.NO_SCAR: (MYOCARDIUM, EDEMA),
    Code.NO_BLOOD: (BACKGROUND, MYOCARDIUM, EDEMA, SCAR, MVO, RV),
    Code.UNKNOWN: tuple(range(N_CLASSES)),
}


def allowed_table() -> NDArray[np.bool_]:
    """Return which classes each code stands for, (codes, classes) bool."""
    table = np.zeros((len(Code), N_CLASSES), dtype=bool)
    for code in Code:
        table[code, list(_SETS.get(code, (int(code),)))] = True
    return table
