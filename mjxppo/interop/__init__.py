"""Our environments for other libraries' trainers."""
