"""Data sets as other libraries write them: a file a format, each read an episode at a time (catalogue.py)."""
