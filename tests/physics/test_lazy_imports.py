"""What ``import mjxppo.physics`` does not load: Pallas and MJX are for the backends that need them."""

import subprocess
import sys

import pytest

MAKE_PLANAR = """
import sys
import mujoco
from mjxppo import physics
spec = '<mujoco><worldbody><body><joint axis="0 1 0"/><geom size="0.1"/></body></worldbody></mujoco>'
physics.make(mujoco.MjModel.from_xml_string(spec), "planar")
print([name for name in sys.modules if name.startswith("MODULE")])
"""


@pytest.mark.parametrize("module", ["jax.experimental.pallas", "mujoco.mjx"])
def test_the_planar_backend_does_not_load(module):
    program = MAKE_PLANAR.replace("MODULE", module)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
