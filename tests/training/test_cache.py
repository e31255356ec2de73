import pickle

import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.training.batches import TrainingStudy
from mrigmm.training.cache import DiskStudies, study_store


def study(study_id="s1", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TrainingStudy(
        study_id,
        torch.randn(2, 6, 4, 3, generator=generator),
        torch.randint(3, (6, 4, 3), generator=generator).to(torch.uint8),
        torch.tensor([True, False]),
    )


def test_studies_come_back_as_they_were(tmp_path):
    store = DiskStudies(tmp_path / "cache")
    originals = [study("a", 1), study("b", 2)]
    for original in originals:
        store.append(original)
    assert len(store) == 2
    for found, original in zip(store, originals, strict=True):
        assert found.id == original.id
        for name in ("image", "region", "present"):
            assert torch.equal(getattr(found, name), getattr(original, name))


def test_what_goes_to_a_worker_is_paths_only(tmp_path):
    store = DiskStudies(tmp_path)
    store.append(study())
    sent = pickle.dumps(store)
    assert len(sent) < 1000  # the image alone is 576 bytes
    assert b"torch" not in sent
    assert torch.equal(pickle.loads(sent)[0].image, study().image)


def test_a_damaged_file_is_named(tmp_path):
    store = DiskStudies(tmp_path)
    store.append(study())
    store.files[0].write_bytes(store.files[0].read_bytes()[:20])
    with pytest.raises(InputError, match="cannot be read back") as caught:
        _ = store[0]
    assert caught.value.problems[0].study == "s1"
    assert caught.value.problems[0].file == str(store.files[0])


def test_the_store_leaves_nothing_behind(tmp_path):
    with study_store("disk", tmp_path / "cache" / "0" / "training") as store:
        store.append(study())
        assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_list(tmp_path):
    with study_store("memory", tmp_path / "cache") as store:
        assert store == []
    assert list(tmp_path.iterdir()) == []
