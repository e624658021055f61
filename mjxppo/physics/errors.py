"""The refusal that a backend raises instead of approximating."""

from mjxppo.errors import UserError


class UnsupportedModelError(UserError):
    """The model has a feature that a backend cannot represent exactly.

    Its message is one line that names the feature and the body, joint, geom or actuator that has it.
    """

    def __init__(self, reason: str, physics: str = ""):
        """Makes the error for an unsupported feature, which ``reason`` names; ``physics`` is what refuses it."""
        super().__init__(f"{physics} physics cannot represent {reason}" if physics else reason)
        self.reason = reason
