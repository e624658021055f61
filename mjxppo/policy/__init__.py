"""A trained policy: what acts, files for other programs, evaluation."""
