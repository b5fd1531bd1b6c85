"""The Deep Variational Bayes Filter: read model.py, then objective.py."""
