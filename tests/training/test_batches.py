import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.labels import allowed_classes
from mrigmm.training.batches import MixtureBatchSampler, Share, SliceDataset, SliceKey, TrainingStudy, collate

ALLOWED = torch.tensor(allowed_classes(("blood", "myocardium")))
SLICES = [3, 5, 1, 2, 4]


def sampler(**changes):
    options = {"batch_slices": 4, "scope": "study", "flip_probability": 0.5, "seed": 0}
    return MixtureBatchSampler([(8, 8, n) for n in SLICES], **(options | changes))


def slices_of(batches):
    return sorted((key.study, key.z) for batch in batches for key in batch.keys)


def share_of(*keys, side=(6, 8)):
    return Share(keys, tuple(range(len(keys))), len(keys), len(keys), side)


def test_an_epoch_shows_every_slice_once():
    everything = [(s, z) for s, n in enumerate(SLICES) for z in range(n)]
    assert slices_of(sampler()) == everything
    assert slices_of(sampler(scope="slice")) == everything


def test_study_scope_never_divides_a_study():
    for batch in sampler():
        for study in {key.study for key in batch.keys}:
            assert sum(key.study == study for key in batch.keys) == SLICES[study]


def test_slice_scope_keeps_to_the_batch_size():
    sizes = [len(batch.keys) for batch in sampler(scope="slice")]
    assert sizes == [4, 4, 4, 3]
    assert len(sampler(scope="slice")) == 4


def test_epochs_differ_and_repeat():
    first, again, other = sampler(), sampler(), sampler()
    other.set_epoch(1)
    assert list(first) == list(again)
    assert list(first) != list(other)


def test_held_out_studies_come_in_one_order():
    batches = sampler(shuffled=False, flip_probability=0.0, batch_slices=100)
    batches.set_epoch(3)
    [batch] = batches
    assert [key.study for key in batch.keys] == sorted(key.study for key in batch.keys)


def test_share_of_mirrored_slices():
    batches = MixtureBatchSampler(
        [(8, 8, 3000)], batch_slices=1, scope="slice", flip_probability=2 / 3, seed=1
    )
    flips = [key.flip for batch in batches for key in batch.keys]
    # 2000 expected; 4 standard deviations of a binomial are 4 * sqrt(3000 * 2/9) = 103 slices
    assert abs(sum(bool(f) for f in flips) - 2000) < 103
    assert {(0,), (1,), ()} == set(flips)


def test_what_shares_a_mixture_is_mirrored_alike():
    """A 3-D network sees the slices of a study as one volume."""
    flips = set()
    for batch in sampler(batch_slices=1):
        assert len({key.flip for key in batch.keys}) == 1
        flips.add(batch.keys[0].flip)
    assert len(flips) > 1


@pytest.mark.parametrize("scope", ["study", "slice"])
@pytest.mark.parametrize("n_processes", [2, 3, 7])
def test_processes_share_each_batch(scope, n_processes):
    """Together they have every slice of the whole batch once, in its place and mirrored alike."""
    whole = list(sampler(scope=scope))
    parts = [list(sampler(scope=scope, rank=r, n_processes=n_processes)) for r in range(n_processes)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        placed = [pair for s in shares if s.counts for pair in zip(s.rows, s.keys, strict=True)]
        assert sorted(placed) == list(enumerate(batch.keys))
        for share in shares:
            assert (share.n_rows, share.n_groups, share.side) == (batch.n_rows, batch.n_groups, batch.side)
            assert share.keys  # a process without a mixture is kept busy, and does not count
            assert share.counts == (shares.index(share) < batch.n_groups)
        if scope == "study":
            owners = [{key.study for key in s.keys} for s in shares if s.counts]
            assert sum(map(len, owners)) == len(set().union(*owners))


def test_every_share_is_padded_like_the_whole_batch():
    batches = MixtureBatchSampler(
        [(4, 6, 1), (8, 2, 1)], batch_slices=2, scope="slice", flip_probability=0, seed=0, n_processes=2
    )
    [share] = batches
    assert len(share.keys) == 1
    assert share.side == (8, 6)


def test_flip_mirrors_image_and_region_alike():
    image, region = (
        torch.arange(24.0).reshape(1, 4, 6, 1),
        torch.arange(24, dtype=torch.uint8).reshape(4, 6, 1),
    )
    data = SliceDataset([TrainingStudy("a", image, region, torch.tensor([True]))])
    _, [slice_] = data[share_of(SliceKey(0, 0, (1,)))]
    assert slice_.image[0, 0].tolist() == [5, 4, 3, 2, 1, 0]
    torch.testing.assert_close(slice_.image[0].to(torch.uint8), slice_.region)


def test_collate_numbers_mixtures_and_pads():
    studies = [
        TrainingStudy(
            "a", torch.ones(2, 4, 4, 2), torch.ones(4, 4, 2, dtype=torch.uint8), torch.tensor([True, True])
        ),
        TrainingStudy(
            "b", torch.ones(2, 6, 8, 1), torch.ones(6, 8, 1, dtype=torch.uint8), torch.tensor([True, False])
        ),
    ]
    loaded = SliceDataset(studies)[share_of(SliceKey(1, 0), SliceKey(0, 0), SliceKey(0, 1))]
    batch = collate(loaded, scope="study", allowed=ALLOWED)
    assert batch.image.shape == (3, 2, 6, 8)
    assert batch.mixture_index.tolist() == [0, 1, 1]
    assert batch.present.tolist() == [[True, False], [True, True]]
    assert (batch.region > 0).sum(dim=(1, 2)).tolist() == [48, 16, 16]
    assert batch.rows.tolist() == [0, 1, 2]
    assert collate(loaded, scope="slice", allowed=ALLOWED).mixture_index.tolist() == [0, 1, 2]


def test_pinning_reaches_every_tensor_that_moves_to_a_device(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    study = TrainingStudy("a", torch.rand(2, 6, 8, 1), torch.ones(6, 8, 1).to(torch.uint8), torch.ones(2) > 0)
    share = share_of(SliceKey(0, 0))
    batch = collate(SliceDataset([study])[share], scope="slice", allowed=ALLOWED)
    pinned = batch.pin_memory()
    for name in ("image", "region", "mixture_index", "present", "allowed"):
        assert getattr(pinned, name) is not getattr(batch, name)
        assert torch.equal(getattr(pinned, name), getattr(batch, name))
    assert pinned.rows is batch.rows
    assert (pinned.n_rows, pinned.n_groups, pinned.counts) == (1, 1, True)


def test_an_error_comes_through_as_itself():
    class Damaged:
        def __getitem__(self, index):
            raise InputError("cannot be read back", study="s7")

    loaded = SliceDataset(Damaged())[share_of(SliceKey(0, 0))]
    error = collate(loaded, scope="slice", allowed=ALLOWED)
    assert isinstance(error, InputError)
    assert error.problems[0].study == "s7"
