"""Networks by name: of a run of ours, or released."""
