"""From options to a trained run: the step, its batches, seeds and devices, checks before and during."""
