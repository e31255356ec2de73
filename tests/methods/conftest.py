"""A wall by hand: six sectors of LGE 90 and 110 in turn (mean and median 100, SD 10)."""

from dataclasses import dataclass, replace

import pytest
import torch

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.standardise import ZScore
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.methods.remote import angular_sectors

from ..conftest import SEQUENCES

CLASSES = ("blood", "myocardium", "edema", "scar")
VOXEL_ML = 1.2 * 1.2 * 10 / 1000
SCAR_ID, EDEMA_ID = 4, 3
# z-scores of the hand-made LGE: (intensity - 100) / 50, so that intensity 0 is -2.
SCALE = ZScore(low=-1e6, high=1e6, centre=100.0, scale=50.0, varies=True, n_clipped=0)


def without(study, channel):
    observed = study.observed.clone()
    observed[channel] = False
    return observed


@dataclass(frozen=True)
class Ring:
    """A study with three slices of a ring of wall around a disc of blood, 1.2 x 1.2 x 10 mm."""

    study: StudyTensors

    @property
    def wall(self):
        return self.study.region == Region.WALL

    def sector(self, number):
        """(X, Y, Z) bool, wall of a sector."""
        sectors = angular_sectors(self.study.region.numpy(), spacing_mm=self.study.spacing_mm)
        return self.wall & torch.from_numpy(sectors == number)

    def base(self):
        """LGE (X, Y, Z): 300 in the cavity, 90 and 110 in turn in each sector."""
        lge = torch.full(self.wall.shape, 300.0)
        for number in range(6):
            here = self.sector(number)
            n = int(here.sum())
            values = 100.0 + 10 * (-1.0) ** torch.arange(n)
            values[n // 2 * 2 :] = 100  # an odd one out
            lge[here] = values
        return lge

    def paint(self, lge, t2=None, **changes):
        """The study with these intensities; without T2 unless given, without bSSFP."""
        image, observed = torch.zeros((3, *lge.shape)), torch.zeros((3, *lge.shape), dtype=torch.bool)
        for channel, values in enumerate((lge, t2)):
            if values is not None:
                image[channel] = (values - 100) / 50
                observed[channel] = True
        kept = self.study.image.clone()
        kept[:] = image
        changes = {"zscores": {"LGE": SCALE, "T2": SCALE}, **changes}
        return replace(self.study, image=kept, observed=observed, **changes)


@pytest.fixture
def ring(workshop):
    path = workshop.manifest([workshop.study(region="cavity-wall")])
    return Ring(load_study(read_manifest(path).split("test")[0], SEQUENCES, CLASSES))


@pytest.fixture
def segment():
    """Runs a method: `segment("nsd", study, n=2)`."""

    def run(name, study, *, classes=CLASSES, prior=None, **settings):
        return make_method(name, Task(classes, SEQUENCES, prior), settings).segment(study)

    return run


def dice(mask, reference):
    return 2 * int((mask & reference).sum()) / (int(mask.sum()) + int(reference.sum()))
