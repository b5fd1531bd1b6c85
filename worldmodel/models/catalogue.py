"""The models that there are. Imports nothing heavy."""

from worldmodel.support.catalogue import Catalogue

MODELS = Catalogue("worldmodel.models", "model")
