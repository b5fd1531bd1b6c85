"""The benchmark of all models, with many seeds: `make benchmark`; and the static VAE's balance (balance.py)."""
