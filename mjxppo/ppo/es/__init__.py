"""Evolution strategies: a population of perturbed policies, of whose returns a step is made, on PPO's worlds."""
