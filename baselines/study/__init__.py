"""The benchmark of all models, with many seeds: `make benchmark`."""
