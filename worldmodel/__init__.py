"""Learn a latent dynamics model from images and actions, and imagine with it.

The package is light to import: take what you need from its modules, for instance
`from worldmodel.data.sequences import Sequences` or `from worldmodel.models.dvbf.model import DVBF`.
"""
