"""What the pretrained networks see of a study."""

from dataclasses import replace

import torch

from mrigmm.labels import Region
from mrigmm.methods.study_views import centred_view, found_view, given_view
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL


def test_a_given_wall(ring):
    study = ring.paint(ring.base(), ring.base())
    view = given_view(study)
    n_slices = study.region.shape[2]
    assert view.slices.image.shape == (n_slices, 3, 128, 128)
    assert view.slices.given.tolist() == [GIVEN_WALL] * n_slices
    assert view.slices.present.tolist() == [[True, True, False]] * n_slices
    assert view.slices.image[:, 2].abs().max() == 0
    assert view.slices.image.abs().max() <= 6
    # Pixels of 1 mm for 1.2 mm: the areas are the same in mm2.
    on_study = view.to_study(torch.stack([(view.slices.region == code).float() for code in Region], dim=1))
    for code in (Region.CAVITY, Region.WALL):
        true = study.region == code
        seen = (view.slices.region == code).sum() / (1.2 * 1.2)
        assert abs(int(seen) - int(true.sum())) < 0.15 * int(true.sum())
        assert ((on_study[int(code)] > 0.5) == true).float().mean() > 0.95


def test_an_undivided_ventricle(ring):
    whole = torch.where(ring.study.region > 0, int(Region.LV), 0).to(torch.uint8)
    view = given_view(replace(ring.paint(ring.base()), region=whole))
    assert set(view.slices.given.tolist()) == {GIVEN_VENTRICLE}
    assert view.slices.present[0].tolist() == [True, False, False]
    assert set(view.slices.region.unique().tolist()) == {Region.OUTSIDE, Region.LV}


def test_nothing_given(ring):
    """z-scores over the square, without the padding; a place beyond the image is its border."""
    study = ring.paint(ring.base())
    for centre in ((8.0, 7.0), (-50.0, 900.0)):
        slices = centred_view(study, centre).slices
        assert set(slices.given.tolist()) == {GIVEN_NOTHING}
        assert slices.region.max() == 0
        acquired = slices.image[:, 0] != 0
        assert 0 < acquired.float().mean() < 0.05  # the image is 19 x 17 mm of the square's 128
        values = slices.image[:, 0][acquired]
        torch.testing.assert_close(values.mean(), torch.tensor(0.0), atol=1e-3, rtol=0)
        torch.testing.assert_close(values.std(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_a_found_ventricle(ring):
    """As where the ventricle is given: z-scores over it, whatever the study was standardised by."""
    codes = torch.from_numpy(ring.study.region.numpy().copy())
    whole = torch.where(codes > 0, int(Region.LV), 0).to(torch.uint8)
    given = given_view(replace(ring.paint(ring.base()), region=whole)).slices
    of_image = replace(ring.paint(7 + 3 * ring.base()), region=torch.full_like(codes, int(Region.LV)))
    found = found_view(of_image, codes > 0).slices
    assert set(found.given.tolist()) == {GIVEN_VENTRICLE}
    assert torch.equal(found.region, given.region)
    values = found.image[:, 0][found.region > 0]
    torch.testing.assert_close(values.mean(), torch.tensor(0.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.std(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_a_box_of_the_plane_and_back(ring):
    study, box = ring.paint(ring.base(), ring.base()), (slice(3, 9), slice(2, 12))
    part = study.in_plane_box(box)
    assert torch.equal(part.image, study.image[:, 3:9, 2:12])
    assert torch.equal(part.observed, study.observed[:, 3:9, 2:12])
    assert part.region.shape == (6, 10, study.region.shape[2])
    whole = study.from_plane_box(part.region + 5, box)
    assert torch.equal(whole[3:9, 2:12], study.region[3:9, 2:12] + 5)
    assert whole.shape == study.region.shape
    assert int(whole.sum()) == int((part.region + 5).sum())
