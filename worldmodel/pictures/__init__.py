"""Every figure and animation, in one style, for any model and any world."""
