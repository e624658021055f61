"""SHAC: the gradient of short horizons' returns, through policy, task and physics.

Xu et al. 2022, Accelerated Policy Learning with Parallel Differentiable Simulation, https://arxiv.org/abs/2204.07137.

* ``horizon``: the objective, and what its gradient is in each step;
* ``rollout``: the rollout, and its derivative by the policy's outputs;
* ``step``: the step of the policy;
* ``critic``: the target critic.
"""
