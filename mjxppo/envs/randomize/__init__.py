"""Domain randomisation: worlds that differ from the model and from each other."""
