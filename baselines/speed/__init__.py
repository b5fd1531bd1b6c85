"""How fast everything is: `make bench`."""
