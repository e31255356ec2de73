"""Training as several processes that share each batch."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed


class PatientDDP(DDPStrategy):
    """Lightning's strategy of several processes, whose wait for the others Ctrl-C and SIGTERM can end."""

    def setup_distributed(self) -> None:
        """Meet the other processes.

        In a thread: torch waits without looking at signals, and Python handles them in the main thread.
        """
        failures: list[BaseException] = []

        def meet() -> None:
            try:
                super(PatientDDP, self).setup_distributed()
            except BaseException as error:
                failures.append(error)

        waiting = Thread(target=meet, daemon=True)
        waiting.start()
        waiting.join()
        for failure in failures:
            raise failure


def mean_over_processes(values: Mapping[str, Tensor], weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return means over a batch of which each process holds a share.

    With value `v_r` and weight `w_r` of process r, the mean is `sum w_r v_r / sum w_r`. The mean over R
    processes of the gradients of `v_r part_r`, `part_r = R w_r / sum w`, is its gradient.

    Args:
        values: means () over this process's share.
        weight: () of the share, 0 for one that does not count.

    Returns:
        Means () over the batch, without gradient, and this process's part ().
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return {name: value.detach() for name, value in values.items()}, torch.ones_like(weight)
    weight = weight.detach()
    sums = torch.stack([weight, *(value.detach() * weight for value in values.values())])
    distributed.all_reduce(sums)
    total = sums[0].clamp_min(torch.finfo(sums.dtype).tiny)
    means = dict(zip(values, sums[1:] / total, strict=True))
    return means, distributed.get_world_size() * weight / total
