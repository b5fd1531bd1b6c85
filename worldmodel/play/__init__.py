"""Truth and dream side by side in a browser, driven by a person."""
