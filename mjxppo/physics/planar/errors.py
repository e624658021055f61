"""The refusal that the planar backend raises instead of approximating."""

from mjxppo.errors import UserError


class UnsupportedModelError(UserError):
    """The model has a feature that the planar backend cannot represent exactly.

    Its message is one line that names the feature and the body, joint, geom or actuator that has it.
    """
