"""Pages that show what was measured: of a run, a sweep, a search."""
