"""The clock of the variance-preserving equation, at ends for which its beta_min is negative too."""

from __future__ import annotations

import numpy as np
import pytest

from diffjax.diffusion.edm_time import VP
from diffjax.diffusion.grids import make_grid, visited
from diffjax.diffusion.ode import ode
from diffjax.diffusion.schedules import EDM

ENDS = {
    "vp": (152.0, 0.0103),
    "edm": (80.0, 0.002),
    "further": (1e4, 1e-4),
    "part": (0.3, 0.1),
    "least": (0.2, 0.2),
}


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
def test_time_is_the_inverse_of_ratio_on_the_whole_range(ends):
    clock = VP(*ends)
    r = np.array([0.0, *np.geomspace(ends[1] / 10, ends[0], 60)])
    t = clock.time(r)
    assert t[0] == 0 and np.all(np.diff(t) > 0)
    np.testing.assert_allclose(clock.ratio(t), r, rtol=1e-7)
    assert clock.time(0.0) == 0 and np.shape(clock.time(0.0)) == ()


def test_beta_min_is_negative_at_edms_own_ends():
    assert VP(80.0, 0.002)._betas[1] < 0 < VP(152.0, 0.0103)._betas[1]
    np.testing.assert_allclose(VP(80.0, 0.002).time([80.0, 0.002]), [1, 1e-3], rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_the_last_step_goes_to_time_zero(order):
    """The authors' `t_N = 0`: y falls along its slope by the whole time that is left."""
    grid = make_grid(EDM(), 6, "karras")
    rows, clock = ode(grid, "vp", order), VP(80.0, 0.002)
    r = grid.t.ratio[-1]
    t, s, speed = clock.time(r), clock.scale(r), clock.speed(r)
    # y = s z, dy/dt = (growth + speed) y - s speed x_hat, from t to 0, where s = 1.
    z = s * (1 - t * (clock.growth(r) + speed))
    np.testing.assert_allclose([rows.z_coef[-1], rows.x_coef[-1]], [z, s * t * speed], rtol=1e-6)


def test_a_spacing_that_rises_on_its_way_is_refused():
    with pytest.raises(ValueError, match=r"does not fall .*karras"):
        visited(EDM(0.5, 1.0), 8, "vp")
    assert np.all(np.diff(visited(EDM(), 8, "vp").sigma) < 0)
