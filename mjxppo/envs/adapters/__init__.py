"""Bridges between this package's environments and other libraries'."""
