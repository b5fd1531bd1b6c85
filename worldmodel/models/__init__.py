"""What a model is (protocol.py), what variational filters share, and the DVBF; its rivals are in baselines/."""
