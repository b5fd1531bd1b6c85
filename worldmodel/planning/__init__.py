"""Acting: planners over any WorldModel, what is wanted, policies learnt in the dream, the dream as an environment."""
