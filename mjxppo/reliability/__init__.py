"""Programs that try to break training: kills at random moments, and very long runs. See docs/reliability.md."""
