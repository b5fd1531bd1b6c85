"""A trained model at work: compiled, rolled out, sampled, asked what other actions would have done."""
