"""The deep segmentation prior: images as an early-stopped hourglass sees them, for clustering.

S. Azulay, Deep segmentation prior, 2019, on D. Ulyanov, A. Vedaldi and V. Lempitsky, Deep image prior, CVPR
2018. A network that is fitted to one image learns its coarse structure before its noise; stopped in between,
and as the median of several fits, it is a smoothed image with edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from mrigmm.methods.settings import ReconstructionSettings
from mrigmm.mixture.threads import all_threads
from mrigmm.networks.hourglass import NOISE_CHANNELS, Hourglass, noise

# Share of the windows' variance that their principal components keep.
_KEPT_VARIANCE = 0.95


class DivergedError(ArithmeticError):
    """A fit whose loss is no number any more."""


@dataclass(frozen=True)
class Reconstruction:
    """Images as the hourglass sees them.

    Attributes:
        images: (Z, C, X, Y) median of the runs; 0 beyond the mask's bounding box and in slices without mask.
        n_iter: (Z, R) iterations of each run, 0 where a slice has no mask.
        explained: (Z, R) explained variance of the masked intensities at the stop.
        settled: (Z, R) bool, whether the stop rule fired; true where a slice has no mask.
        losses: of each slice with a mask and each run, in this order: L1 of every iteration.
    """

    images: Tensor
    n_iter: Tensor
    explained: Tensor
    settled: Tensor
    losses: tuple[tuple[float, ...], ...]


def reconstruct(
    images: Tensor, mask: Tensor, settings: ReconstructionSettings, *, device: torch.device | None = None
) -> Reconstruction:
    """Reconstruct every slice by several fresh hourglasses, each stopped where it stops gaining.

    A run minimises ``mean |f(z) - x|`` over the mask and all channels; z is noise, drawn once per run. It
    stops when the explained variance ``1 - sum (f - x)^2 / sum (x - mean x)^2``, averaged over
    `window_iterations`, is less than a share `stop_gain` above that of the window before. That is a property
    of the image, not of its number of pixels. Air takes no capacity:
    outside the mask, nothing is asked of the network.

    Args:
        images: (Z, C, X, Y) standardised intensities; what stands outside the mask does not matter.
        mask: (Z, X, Y) bool, where the network is to be like the image.
        settings: of hourglass, runs and stop rule.
        device: where the networks are fitted.

    Returns:
        The medians of the runs. Seeded; slices do not depend on each other, but for the shared crop.

    Raises:
        DivergedError: a loss is not finite.
        ValueError: an empty mask, or shapes that do not fit together.
    """
    if images.ndim != 4 or mask.shape != (images.shape[0], *images.shape[2:]):
        raise ValueError(f"expected (Z, C, X, Y) and (Z, X, Y), got {images.shape} and {mask.shape}")
    if not mask.any():
        raise ValueError("expected a mask that is not empty")
    device = torch.device("cpu") if device is None else device
    rows, columns = _bounding_box(mask)
    shape = tuple(_padded(part.stop - part.start, 2**settings.levels) for part in (rows, columns))
    result = torch.zeros_like(images, dtype=torch.float32)
    n_iter = torch.zeros((len(images), settings.runs), dtype=torch.long)
    explained, settled = torch.zeros(n_iter.shape), torch.ones(n_iter.shape, dtype=torch.bool)
    losses = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for z in mask.flatten(1).any(dim=1).nonzero()[:, 0].tolist():
            torch.manual_seed(settings.seed)
            image, where = images[z, :, rows, columns], mask[z, rows, columns]
            target = _Target.of(image.to(device).float(), where.to(device), (shape[0], shape[1]))
            fits = []
            for run in range(settings.runs):
                fit, course, share, done = _fit(target, settings)
                fits.append(fit[:, : image.shape[1], : image.shape[2]].cpu())
                losses.append(tuple(course))
                n_iter[z, run], explained[z, run], settled[z, run] = len(course), share, done
            result[z, :, rows, columns] = torch.stack(fits).quantile(0.5, dim=0)
    return Reconstruction(result, n_iter, explained, settled, tuple(losses))


@dataclass(frozen=True)
class _Target:
    """One slice, padded to what the hourglass can halve.

    Attributes:
        image: (C, A, B).
        mask: (A, B) bool, false in the padding.
        variance: sum over mask and channels of squared distances from the channels' means.
    """

    image: Tensor
    mask: Tensor
    variance: Tensor

    @classmethod
    def of(cls, image: Tensor, mask: Tensor, shape: tuple[int, int]) -> _Target:
        """Pad (C, a, b) and (a, b) at the far ends."""
        pad = (0, shape[1] - image.shape[2], 0, shape[0] - image.shape[1])
        values = image[:, mask]
        variance = (values - values.mean(dim=1, keepdim=True)).square().sum()
        return cls(nn.functional.pad(image, pad), nn.functional.pad(mask, pad), variance)

    def errors(self, output: Tensor) -> Tensor:
        """(C, n) differences inside the mask."""
        return output[:, self.mask] - self.image[:, self.mask]


@all_threads()
def _fit(target: _Target, settings: ReconstructionSettings) -> tuple[Tensor, list[float], float, bool]:
    """One run: the image (C, A, B), its losses, the explained variance, whether it settled."""
    channels, *shape = target.image.shape
    network = Hourglass(
        NOISE_CHANNELS,
        channels,
        filters=settings.filters,
        levels=settings.levels,
        skip_channels=settings.skip_channels,
    ).to(target.image.device)
    z = noise((shape[0], shape[1]), device=target.image.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    losses: list[float] = []
    shares: list[float] = []
    while True:
        output = network(z)[0]
        errors = target.errors(output)
        loss = errors.abs().mean()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"loss {losses[-1]} in iteration {len(losses)}")
        # Of a constant image, all is explained.
        left = errors.detach().square().sum() / target.variance if target.variance > 0 else 0.0
        shares.append(float(1 - left))
        settled = plateau(shares, settings.window_iterations, settings.stop_gain)
        if settled or len(losses) == settings.max_iter:
            return output.detach(), losses, shares[-1], settled
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def plateau(shares: list[float], window: int, gain: float) -> bool:
    """Return whether the mean of the last window is less than a share `gain` above that of the window before.

    Args:
        shares: explained variance of every iteration so far.
        window: iterations.
        gain: relative.
    """
    if len(shares) < 2 * window:
        return False
    before, now = (sum(part) / window for part in (shares[-2 * window : -window], shares[-window:]))
    return before > 0 and now - before < gain * before


def _bounding_box(mask: Tensor) -> tuple[slice, slice]:
    """In plane, of all slices (Z, X, Y)."""
    inside = mask.any(dim=0).nonzero()
    low, high = inside.amin(dim=0).tolist(), inside.amax(dim=0).tolist()
    return slice(low[0], high[0] + 1), slice(low[1], high[1] + 1)


def _padded(size: int, divisor: int) -> int:
    """The next multiple of the divisor; at least two, for a single pixel cannot be reflected."""
    return divisor * max(math.ceil(size / divisor), 2)


def values_at(images: Tensor, inside: Tensor) -> Tensor:
    """Values (n, C) of images (Z, C, X, Y) where `inside` (X, Y, Z) is true, in `inside.nonzero()` order."""
    return images.permute(2, 3, 0, 1)[inside]


def window_features(images: Tensor, inside: Tensor, window: int) -> Tensor:
    """Windows of `window` x `window` pixels around every pixel, in few dimensions.

    The windows' values are correlated: principal components that hold 95 % of their variance are kept.

    Args:
        images: (Z, C, X, Y); reflected at the border.
        inside: (X, Y, Z) bool, the n pixels that are wanted.
        window: odd; 1 gives the values themselves.

    Returns:
        (n, C) or, of windows, (n, F).
    """
    if window == 1:
        return values_at(images, inside)
    reach = window // 2
    padded = nn.functional.pad(images, (reach,) * 4, mode="reflect")
    windows = nn.functional.unfold(padded, window).reshape(len(images), -1, *images.shape[2:])
    found = PCA(n_components=_KEPT_VARIANCE, svd_solver="full").fit_transform(
        values_at(windows, inside).numpy()
    )
    return torch.from_numpy(found)
