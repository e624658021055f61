"""Physics of planar kinematic trees, compiled to elementwise arithmetic over the batch.

MuJoCo's own algorithm, specialised when it is traced to one robot that moves in the xz plane. From model to step:

* ``compile``: an ``MjModel`` to a ``PlanarModel`` (model.py), or a refusal that names the unsupported feature;
* ``kinematics``, ``inertia``, ``smooth``: positions, velocities, M and the unconstrained forces;
* ``constraint``, ``pair``, ``rows``: contacts as rows of the solver's problem;
* ``problem``: the convex problem, which ``physics.solver`` solves;
* ``backend``: what ``physics.columns`` needs to know.
"""

from mjxppo.physics.planar.backend import PlanarPhysics

__all__ = ["PlanarPhysics"]
