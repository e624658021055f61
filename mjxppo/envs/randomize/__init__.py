"""Worlds that differ: a task around a task."""
