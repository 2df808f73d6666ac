"""The diffusion core: schedules, predictions, weightings, times, grids, samplers, guidance."""
