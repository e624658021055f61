"""Learning curves, reports and studies from finished runs, and a live view of a run in progress."""
