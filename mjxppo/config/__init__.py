"""Configurations: what there is to set, reading and checking it, and several policies in one run."""
