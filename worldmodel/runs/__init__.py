"""The folder of a run: configuration, metrics, checkpoints; and the trained model that is in it."""
