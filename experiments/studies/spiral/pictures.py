"""The study's figures: fields, ways, collapse, guidance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from diffjax.diffusion.schedules import Schedule
from experiments.studies.spiral.measures import RATIOS, SAMPLERS, Walks, displacement, level_of
from experiments.studies.spiral.points import ARMS, BOTH, PointDenoiser, Spiral

INK, MUTED, LINE, PAPER = "#1d1e22", "#6a6c74", "#e3e1db", "#ffffff"
ARM = ("#2b59c3", "#d1621b")
GUIDED_AT = 0.7  # sigma / alpha of the guidance field
SHOWN = (1.0, 2.0, 4.0, 8.0)
STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.titlesize": 11,
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
}


CAPTIONS = {
    "fields": {
        "title": "The field that is learned",
        "text": "Arrows point from z / alpha to the network's estimate of the clean point: the "
        "score times sigma squared over alpha. Grey: data at that noise level. With much noise "
        "everything points to the mean; the arms appear as noise falls.",
    },
    "ways": {
        "title": "Two ways to the data",
        "text": "DDPM's noise makes a random walk of the way; DDIM's is smooth and nearly "
        "straight. Time runs from light to dark.",
    },
    "collapse": {
        "title": "What the noise is for",
        "text": "A posterior mean is an average over what z may become. Step by step from mean to "
        "mean, without drawing from the posterior, all samples shrink to one point near the mean "
        "of the data.",
    },
    "guidance": {
        "title": "Guidance",
        "text": "Conditional minus unconditional estimate, times the scale, points away from the "
        "other arm. Growing guidance first cleans the samples, then crowds them where the other "
        "arm is farthest, and past the arm itself.",
    },
}


def draw_all(walks: Walks, spiral: Spiral, folder: Path) -> dict[str, Path]:
    """Writes every figure as PNG into `folder`; name -> file."""
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], Figure]] = {
        "fields": lambda: fields(walks.denoise, spiral, walks.schedule),
        "ways": lambda: ways(walks, spiral),
        "collapse": lambda: collapse(walks, spiral),
        "guidance": lambda: guidance(walks, spiral),
    }
    files = {}
    with matplotlib.rc_context(STYLE):
        for name, make in makers.items():
            files[name] = folder / f"{name}.png"
            make().savefig(files[name], dpi=150)
    return files


def _panels(rows: int, columns: int, title: str, side: float = 2.9) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(side * columns, side * rows + 0.45))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title, fontsize=12.5, color=INK, x=0.01, ha="left")
    return figure, axes


def _plane(ax: Axes, title: str, half: float = 1.45) -> None:
    ax.set_title(title, loc="left")
    ax.set_aspect("equal")
    ax.set_xlim(-half, half)
    ax.set_ylim(-half, half)
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])
    ax.tick_params(labelsize=8)


def _arms(ax: Axes, spiral: Spiral) -> None:
    """The curve of each arm, faint."""
    for arm in range(ARMS):
        ax.plot(*spiral.centres[arm].T, color=ARM[arm], linewidth=1.2, alpha=0.35, zorder=1)


def _arrows(ax: Axes, at: np.ndarray, field: np.ndarray, colour: str | None = None) -> Any:
    """Unit arrows, coloured by the field's length unless a colour is given."""
    length = np.linalg.norm(field, axis=-1)
    unit = field / np.maximum(length, 1e-9)[:, None]
    options: Any = dict(units="xy", angles="xy", scale=1 / 0.13, width=0.014, pivot="mid", zorder=3)
    if colour is not None:
        return ax.quiver(*at.T, *unit.T, color=colour, **options)
    return ax.quiver(*at.T, *unit.T, length, cmap="viridis", clim=(0, 1), **options)


def _lattice(half: float = 1.35, side: int = 19) -> np.ndarray:
    line = np.linspace(-half, half, side)
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


def fields(denoise: PointDenoiser, spiral: Spiral, schedule: Schedule) -> Figure:
    """Learned and exact displacement `x_hat - z / alpha` by noise level, over noised data."""
    figure, axes = _panels(
        2, len(RATIOS), "Where the denoiser points: learned (above) and exact (below)"
    )
    rng, at = np.random.default_rng(0), _lattice()
    arrows: Any = None
    for column, ratio in enumerate(RATIOS):
        level = level_of(schedule, ratio)
        x, _ = spiral.draw(1500, rng)
        noised = x + ratio * rng.standard_normal(x.shape)  # z / alpha
        for row, (name, model) in enumerate((("learned", denoise), ("exact", spiral.estimate))):
            ax = axes[row, column]
            ax.scatter(*noised.T, s=2, color=MUTED, alpha=0.25, linewidths=0, zorder=0)
            field = displacement(model, float(level.alpha) * at, level, BOTH)
            arrows = _arrows(ax, at, field)
            _plane(ax, f"{name}, σ/α = {ratio:g}")
    bar = figure.colorbar(arrows, ax=axes, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label("length of the step to the estimate", color=MUTED)
    bar.outline.set_visible(False)  # type: ignore[union-attr]
    return figure


def ways(walks: Walks, spiral: Spiral, shown: int = 12) -> Figure:
    """Ways from one and the same noise, early steps light and late ones dark."""
    figure, axes = _panels(1, 2, "From the same noise to the data, 100 steps each", side=4.4)
    for ax, name in zip(axes[0], ("ddpm", "ddim"), strict=True):
        states = walks(name)[:, :shown]
        _arms(ax, spiral)
        for n in range(shown):
            way = states[:, n]
            pieces = np.stack([way[:-1], way[1:]], 1)
            ax.add_collection(
                LineCollection(
                    list(pieces), array=np.linspace(0, 1, len(pieces)), cmap="magma_r",
                    clim=(-0.2, 1.1), linewidths=0.8, alpha=0.85, zorder=2,
                )
            )  # fmt: skip
        ax.scatter(*states[0].T, s=14, facecolors=PAPER, edgecolors=MUTED, zorder=3, label="noise")
        ax.scatter(*states[-1].T, s=14, color=INK, zorder=4, label="sample")
        _plane(ax, {"ddpm": "DDPM (ancestral)", "ddim": "DDIM"}[name], 2.6)
    axes[0, 1].legend(frameon=False, loc="upper right", fontsize=9)
    return figure


def collapse(walks: Walks, spiral: Spiral) -> Figure:
    """Ends of samples with each sampler."""
    figure, axes = _panels(1, 3, "Ancestral sampling needs its noise", side=3.5)
    names = {
        "ddpm": "DDPM",
        "ddim": "DDIM",
        "ddpm without noise": "DDPM without its noise",
    }
    mean = spiral.centres.mean((0, 1))
    for ax, name in zip(axes[0], SAMPLERS, strict=True):
        _arms(ax, spiral)
        ax.scatter(*walks(name)[-1, :600].T, s=7, color=INK, alpha=0.55, linewidths=0, zorder=2)
        ax.scatter(*mean, marker="+", s=90, color="#b3372f", zorder=3)
        _plane(ax, names[name], 1.2)
    axes[0, 2].annotate(
        "mean of the data", mean, (mean[0] - 1.0, mean[1] - 0.95), color="#b3372f", fontsize=9,
        arrowprops=dict(arrowstyle="-", color="#b3372f", linewidth=0.8),
    )  # fmt: skip
    return figure


def guidance(walks: Walks, spiral: Spiral, arm: int = 0) -> Figure:
    """Above: conditional minus unconditional estimate times the scale; below: samples."""
    figure, axes = _panels(
        2, len(SHOWN), "What guidance adds to the estimate (above), and what it draws (below)"
    )
    at, level = _lattice(side=10), level_of(walks.schedule, GUIDED_AT)
    z = float(level.alpha) * at
    difference = displacement(walks.denoise, z, level, arm)
    difference = difference - displacement(walks.denoise, z, level, BOTH)
    for column, scale in enumerate(SHOWN):
        above, below = axes[:, column]
        for ax in (above, below):
            _arms(ax, spiral)
        above.quiver(
            *at.T, *(scale * difference).T, color=ARM[arm], units="xy", angles="xy",
            scale_units="xy", scale=3.5, width=0.022, zorder=3,
        )  # fmt: skip
        _plane(above, f"scale {scale:g}, σ/α = {GUIDED_AT:g}")
        x = walks("ddim", arm, scale, 50)[-1, :600]
        below.scatter(*x.T, s=6, color=ARM[arm], alpha=0.5, linewidths=0, zorder=2)
        _plane(below, f"samples at scale {scale:g}", 1.2)
    return figure
