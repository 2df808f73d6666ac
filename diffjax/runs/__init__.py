"""Runs on disk: what training leaves in a workdir, and a trained run opened from it."""

from diffjax.runs.trained import TrainedRun, open_run

__all__ = ["TrainedRun", "open_run"]
