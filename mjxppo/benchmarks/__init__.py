"""Measurements of the package against its references."""
