"""Two-dimensional Navier-Stokes flows on a torus, pseudo-spectral, in torch: data to forecast.

    dw/dt + u . grad(w) = nu lap(w) + f        u = (dpsi/dy, -dpsi/dx),  -lap(psi) = w

w is vorticity on the unit square with periodic borders. The problem is that of Li et al. 2021
(arXiv 2010.08895, section 5.3), which Horuz et al. 2025 forecast: random smooth initial vorticity,
viscosity 1e-3, forcing 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)). Their generator takes
Crank-Nicolson steps of 1e-4 s; here viscosity is integrated exactly (an integrating factor) and the
rest by the classical Runge-Kutta method of order four, so that steps of 0.05 s are enough, and
products are dealiased by the two-thirds rule. Without viscosity and forcing the scheme conserves
energy and enstrophy, which the tests use; with them, dE/dt = -2 nu Z + <psi f>.

Letters: B flows, N grid points along each side, w vorticity (B, N, N), x along the last dimension,
hats are rfft2 coefficients (B, N, N // 2 + 1). Times are in seconds of the flow.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recognizers.errors import ConfigError

TAU = 2.0 * math.pi


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowConfig:
    """One kind of flow, and how it is stepped."""

    viscosity: float = 1e-3
    forcing: float = 0.1  # amplitude
    step_seconds: float = 0.05
    record_seconds: float = 1.0  # between two recorded fields; a multiple of step_seconds

    def __post_init__(self) -> None:
        if self.viscosity < 0 or self.step_seconds <= 0 or self.record_seconds <= 0:
            raise ConfigError(
                f"viscosity {self.viscosity}, steps of {self.step_seconds} s, records every "
                f"{self.record_seconds} s: viscosity may be 0, times must be positive"
            )
        ratio = self.record_seconds / self.step_seconds
        if abs(ratio - round(ratio)) > 1e-6:
            raise ConfigError(
                f"records every {self.record_seconds} s are no multiple of steps of "
                f"{self.step_seconds} s: change one"
            )

    @property
    def steps_per_record(self) -> int:
        """Time steps between two recorded fields."""
        return round(self.record_seconds / self.step_seconds)


class Grid:
    """Wave numbers of an N x N grid, for one device and dtype."""

    def __init__(self, size: int, *, device: torch.device, dtype: torch.dtype) -> None:
        if size < 4 or size % 2:
            raise ConfigError(f"grid of {size} points a side: give an even number from 4 on")
        across = torch.fft.rfftfreq(size, 1 / size, device=device, dtype=dtype)
        down = torch.fft.fftfreq(size, 1 / size, device=device, dtype=dtype)[:, None]
        self.size = size
        self.d_x = 1j * TAU * across  # what differentiates
        self.d_y = 1j * TAU * down
        self.square = TAU**2 * (across**2 + down**2)  # of the wave number: -lap
        inverse = 1.0 / self.square.clamp_min(TAU**2)
        inverse[0, 0] = 0.0  # the mean of psi is free
        self.inverse_square = inverse
        self.kept = (across.abs() < size / 3) & (down.abs() < size / 3)

    def transport(self, w_hat: Tensor) -> Tensor:
        """-u . grad(w), dealiased: what stirring alone does to the vorticity."""
        w_hat = w_hat * self.kept
        psi_hat = w_hat * self.inverse_square
        fields = (psi_hat * self.d_y, psi_hat * self.d_x, w_hat * self.d_x, w_hat * self.d_y)
        shape = (self.size, self.size)
        psi_y, psi_x, w_x, w_y = torch.fft.irfft2(torch.stack(fields), s=shape)
        return torch.fft.rfft2(psi_x * w_y - psi_y * w_x) * self.kept


def simulate(vorticity: Tensor, num_records: int, config: FlowConfig | None = None) -> Tensor:
    """Follow flows in time.

    Args:
        vorticity: (B, N, N), float32 or float64, N even; what the two-thirds rule cuts is dropped.
        num_records: fields to record after the initial one, `record_seconds` apart.
        config: default `FlowConfig()`.

    Returns:
        (B, num_records + 1, N, N), the initial field first.

    Raises:
        ConfigError: the grid is odd, or the steps are too long for the flow (values not finite).
    """
    config = config or FlowConfig()
    size = vorticity.shape[-1]
    grid = Grid(size, device=vorticity.device, dtype=vorticity.dtype)
    h = config.step_seconds
    half = torch.exp(-0.5 * h * config.viscosity * grid.square)  # decay over half a step
    whole = half * half
    forcing = torch.fft.rfft2(forcing_field(size, config.forcing, like=vorticity))

    def slope(w_hat: Tensor) -> Tensor:
        return grid.transport(w_hat) + forcing

    w_hat = torch.fft.rfft2(vorticity) * grid.kept
    records = [w_hat]
    for _ in range(num_records):
        for _ in range(config.steps_per_record):
            k1 = slope(w_hat)
            k2 = slope(half * (w_hat + 0.5 * h * k1))
            k3 = slope(half * w_hat + 0.5 * h * k2)
            k4 = slope(whole * w_hat + h * half * k3)
            w_hat = whole * w_hat + h / 6 * (whole * k1 + 2 * half * (k2 + k3) + k4)
        records.append(w_hat)
    fields = torch.fft.irfft2(torch.stack(records, dim=1), s=(size, size))
    if not torch.isfinite(fields).all():
        raise ConfigError(
            f"the flow blew up with steps of {h} s on {size} points a side: shorten step_seconds"
        )
    return fields


def forcing_field(size: int, amplitude: float, *, like: Tensor) -> Tensor:
    """amplitude (sin 2 pi (x + y) + cos 2 pi (x + y)) on the grid, (N, N)."""
    at = torch.arange(size, device=like.device, dtype=like.dtype) / size
    phase = TAU * (at[None, :] + at[:, None])
    return amplitude * (torch.sin(phase) + torch.cos(phase))


def random_vorticity(
    num_flows: int,
    size: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Smooth random fields (B, N, N) of mean zero: Gaussian, covariance 7^3 (-lap + 49)^-2.5.

    On the CPU. The same law at every N (Li et al. 2021, section 5.3).
    """
    noise = torch.randn(num_flows, size, size, generator=generator, dtype=dtype)
    grid = Grid(size, device=noise.device, dtype=dtype)
    spread = math.sqrt(2.0) * 7.0**1.5 * (grid.square + 49.0) ** -1.25
    spread[0, 0] = 0.0
    return torch.fft.irfft2(torch.fft.rfft2(noise) * spread * size, s=(size, size))


def resample(fields: Tensor, size: int) -> Tensor:
    """Fields (..., N, N) on a grid of `size` points a side: modes are cut, or zeros added.

    Exact for fields without modes at or beyond half of the smaller of the two grids.
    """
    old = fields.shape[-1]
    w_hat = torch.fft.fftshift(torch.fft.fft2(fields), dim=(-2, -1))
    width = min(old, size)
    out = w_hat.new_zeros(*fields.shape[:-2], size, size)
    there, here = (size - width) // 2, (old - width) // 2
    out[..., there : there + width, there : there + width] = w_hat[
        ..., here : here + width, here : here + width
    ]
    shifted = torch.fft.ifftshift(out, dim=(-2, -1))
    return torch.fft.ifft2(shifted).real * (size / old) ** 2


def energy(vorticity: Tensor) -> Tensor:
    """Mean of |u|^2 / 2 over the square, (..., N, N) to (...)."""
    grid = Grid(vorticity.shape[-1], device=vorticity.device, dtype=vorticity.dtype)
    psi_hat = torch.fft.rfft2(vorticity) * grid.inverse_square
    psi = torch.fft.irfft2(psi_hat, s=vorticity.shape[-2:])
    return 0.5 * (psi * vorticity).mean(dim=(-2, -1))


def enstrophy(vorticity: Tensor) -> Tensor:
    """Mean of w^2 / 2 over the square, (..., N, N) to (...)."""
    return 0.5 * vorticity.square().mean(dim=(-2, -1))


def make_sequences(
    num_flows: int,
    num_records: int,
    *,
    size: int = 16,
    simulated_size: int = 64,
    seed: int = 0,
    config: FlowConfig | None = None,
) -> Tensor:
    """Sequences to learn from, float32 (B, num_records + 1, 1, size, size).

    Flows are simulated on a grid of `simulated_size` points and cut to `size` points; `seed` says
    which flows. Flows are made 16 at a time, so memory does not grow with their number.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, num_flows, 16):
        count = min(16, num_flows - start)
        initial = random_vorticity(count, simulated_size, generator=generator)
        parts.append(resample(simulate(initial, num_records, config), size).float())
    return torch.cat(parts)[:, :, None]
