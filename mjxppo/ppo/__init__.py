"""Proximal policy optimisation as pure functions on arrays, and the device program made of them."""
