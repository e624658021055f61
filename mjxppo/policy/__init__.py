"""A trained policy: the function from observations to actions, its files for other programs, its evaluation."""
