import torch

from mrigmm.labels import allowed_classes
from mrigmm.training.batches import MixtureBatchSampler, SliceDataset, SliceKey, TrainingStudy, collate

ALLOWED = torch.tensor(allowed_classes(("blood", "myocardium")))


def sampler(**changes):
    options = {"batch_slices": 4, "scope": "study", "flip_probability": 0.5, "seed": 0}
    return MixtureBatchSampler([3, 5, 1, 2, 4], **(options | changes))


def slices_of(batches):
    return sorted((key.study, key.z) for batch in batches for key in batch)


def test_an_epoch_shows_every_slice_once():
    everything = [(s, z) for s, n in enumerate([3, 5, 1, 2, 4]) for z in range(n)]
    assert slices_of(sampler()) == everything
    assert slices_of(sampler(scope="slice")) == everything


def test_study_scope_never_divides_a_study():
    for batch in sampler():
        for study in {key.study for key in batch}:
            assert sum(key.study == study for key in batch) == [3, 5, 1, 2, 4][study]


def test_slice_scope_keeps_to_the_batch_size():
    sizes = [len(batch) for batch in sampler(scope="slice")]
    assert sizes == [4, 4, 4, 3]
    assert len(sampler(scope="slice")) == 4


def test_epochs_differ_and_repeat():
    first, again, other = sampler(), sampler(), sampler()
    other.set_epoch(1)
    assert list(first) == list(again)
    assert list(first) != list(other)


def test_share_of_mirrored_slices():
    batches = MixtureBatchSampler([3000], batch_slices=1, scope="slice", flip_probability=2 / 3, seed=1)
    flips = [key.flip for batch in batches for key in batch]
    # 2000 expected; 4 standard deviations of a binomial are 4 * sqrt(3000 * 2/9) = 103 slices
    assert abs(sum(bool(f) for f in flips) - 2000) < 103
    assert {(0,), (1,), ()} == set(flips)


def test_what_shares_a_mixture_is_mirrored_alike():
    """A 3-D network sees the slices of a study as one volume."""
    flips = set()
    for batch in sampler(batch_slices=1):
        assert len({key.flip for key in batch}) == 1
        flips.add(batch[0].flip)
    assert len(flips) > 1


def test_flip_mirrors_image_and_region_alike():
    image, region = (
        torch.arange(24.0).reshape(1, 4, 6, 1),
        torch.arange(24, dtype=torch.uint8).reshape(4, 6, 1),
    )
    data = SliceDataset([TrainingStudy(image, region, torch.tensor([True]))])
    [slice_] = data[[SliceKey(0, 0, (1,))]]
    assert slice_.image[0, 0].tolist() == [5, 4, 3, 2, 1, 0]
    torch.testing.assert_close(slice_.image[0].to(torch.uint8), slice_.region)


def test_collate_numbers_mixtures_and_pads():
    studies = [
        TrainingStudy(
            torch.ones(2, 4, 4, 2), torch.ones(4, 4, 2, dtype=torch.uint8), torch.tensor([True, True])
        ),
        TrainingStudy(
            torch.ones(2, 6, 8, 1), torch.ones(6, 8, 1, dtype=torch.uint8), torch.tensor([True, False])
        ),
    ]
    data = SliceDataset(studies)
    keys = [SliceKey(1, 0), SliceKey(0, 0), SliceKey(0, 1)]
    batch = collate(data[keys], scope="study", allowed=ALLOWED)
    assert batch.image.shape == (3, 2, 6, 8)
    assert batch.mixture_index.tolist() == [0, 1, 1]
    assert batch.present.tolist() == [[True, False], [True, True]]
    assert (batch.region > 0).sum(dim=(1, 2)).tolist() == [48, 16, 16]
    assert collate(data[keys], scope="slice", allowed=ALLOWED).mixture_index.tolist() == [0, 1, 2]
