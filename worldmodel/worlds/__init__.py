"""Worlds to learn from. Importing this package registers them with Gymnasium."""

import gymnasium

gymnasium.register("worldmodel/Pendulum-v0", "worldmodel.worlds.pendulum.physics:PendulumEnv", max_episode_steps=200)
