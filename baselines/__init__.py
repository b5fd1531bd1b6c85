"""Models to compare the DVBF with, one file each; the studies of them (study/) and of speed (speed/)."""
