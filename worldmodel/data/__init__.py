"""Sequences of frames and actions: the record and its checks, files and folders, windows for training, scaling."""
