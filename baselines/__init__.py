"""Models to compare the DVBF with, one file each."""
