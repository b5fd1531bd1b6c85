"""Whether a model has learnt anything and how far its dreams can be trusted: measures, probes, and one record."""
