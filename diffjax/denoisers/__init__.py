"""Networks read as denoisers: the space they work in, their conditions, and the model of both."""
