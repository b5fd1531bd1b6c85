"""Worlds whose truth is known (world.py is their interface), their simulator, and collecting."""
