"""A live view in the browser of a policy that acts: ``simulation`` steps it, ``scene`` and ``panel`` show it."""
