"""The pendulum: options, physics, picture, what a frame shows, and its Gymnasium environment."""
