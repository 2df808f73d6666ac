"""From a config to a run that trains: the only rooms where all others meet."""
