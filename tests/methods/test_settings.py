"""What all methods' settings have in common."""

import pytest

from mrigmm.errors import InputError
from mrigmm.methods.base import Task
from mrigmm.methods.registry import METHODS, make_method

# map-em needs a prior, which names its classes.
ORDERED = [name for name, entry in METHODS.items() if "order_by" in entry.fields]


@pytest.mark.parametrize("name", ORDERED)
def test_components_are_ordered_by_known_sequences_only(name):
    task = Task(("a", "b"), ("LGE", "T2"), None)
    assert make_method(name, task, {"order_by": ("T2",)}).describe()["order_by"] == ["T2"]
    with pytest.raises(InputError, match="order_by: unknown sequence 't2'"):
        make_method(name, task, {"order_by": ("t2",)})
