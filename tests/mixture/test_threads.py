"""One thread for a study's fits, all for a network's pass, and what the user asked for before both."""

import pytest
import torch

from mrigmm.mixture.threads import all_threads, one_thread


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch):
    """Nothing in the environment, and three threads of torch."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_inside_and_as_before_afterwards():
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_an_error_leaves_the_threads_as_before():
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == 3
    with all_threads():
        assert torch.get_num_threads() == 3


def test_a_network_inside_takes_all_and_fits_in_it_one_again():
    with one_thread():
        with all_threads():
            assert torch.get_num_threads() == 3
            with one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_a_network_takes_one_where_it_is_told_to():
    with one_thread(networks=True):
        assert torch.get_num_threads() == 1
        with all_threads(), one_thread():
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_all_threads_alone_change_nothing():
    torch.set_num_threads(2)
    with all_threads():
        assert torch.get_num_threads() == 2


def test_a_network_inside_two_fits_takes_all():
    with one_thread(), one_thread(), all_threads():
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_what_the_user_asked_for_holds_everywhere(monkeypatch, name):
    monkeypatch.setenv(name, "3")
    with one_thread():
        assert torch.get_num_threads() == 3
        with all_threads():
            assert torch.get_num_threads() == 3


def test_one_process_of_a_pool_stays_at_its_one_thread():
    torch.set_num_threads(1)
    with one_thread(), all_threads():
        assert torch.get_num_threads() == 1


def test_they_serve_as_decorators():
    @one_thread()
    def fit():
        return torch.get_num_threads(), network()

    @all_threads()
    def network():
        return torch.get_num_threads()

    assert [fit(), fit()] == [(1, 3), (1, 3)]
