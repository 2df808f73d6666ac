"""A package, so that no other `tests` that a library installs stands in its way."""
