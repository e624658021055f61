"""Ships configs/ inside the wheel as mjxppo/configs.

An editable install gets no copy, which would go stale: there the package finds configs/ in the checkout.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConfigsHook(BuildHookInterface):
    """Run by hatchling for every wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["configs"] = "mjxppo/configs"
