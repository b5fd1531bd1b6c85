"""The networks that see and draw frames."""
