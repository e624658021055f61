"""The training program compiled for a GPU that need not be there, read kernel by kernel."""
