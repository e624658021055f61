"""The robot and the ground in viser's scene, with the robot always in the middle, so that the camera stays free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import trimesh

from mjxppo.render.camera import tile_size
from mjxppo.render.outline import body_geoms, boxes, floor_height, geom_color
from mjxppo.view.simulation import Pose, Pull, Simulation

_KIND = mujoco.mjtGeom
_ROUND = (int(_KIND.mjGEOM_SPHERE), int(_KIND.mjGEOM_CAPSULE), int(_KIND.mjGEOM_ELLIPSOID))
_FLOOR, _LINE, _LINES_BETWEEN, _ARROW = (228, 233, 239), (120, 134, 150), (190, 199, 209), (214, 60, 40)
_REACH = 40  # tiles of the ground on each side
_NEWTONS_PER_METRE = 15.0  # an arrow's length, for each kilogram of the robot


class Scene:
    """What viser shows of a simulation."""

    def __init__(self, server: Any, simulation: Simulation):
        """Adds everything to the scene of a ``viser.ViserServer``."""
        self._simulation = simulation
        self.pull: Pull | None = None
        """How the mouse pulls the robot, its target relative to the middle of the scene."""
        model = simulation.model
        extent = _extent(model)
        self._tile, self._floor_height = tile_size(2.5 * extent), floor_height(model)
        self._origin = np.zeros(3)
        server.scene.set_up_direction("+z")
        _light(server, extent)
        self._look(server, extent)
        self._ground = self._add_ground(server)
        self._world = server.scene.add_frame("/world", show_axes=False)
        shapes = {int(geom): mesh_of(model, int(geom)) for geom in [*body_geoms(model), *_furniture(model)]}
        self._geoms = {geom: _add(server, model, geom, mesh) for geom, mesh in shapes.items() if mesh is not None}
        for geom in set(self._geoms) & {int(geom) for geom in body_geoms(model)}:
            self._geoms[geom].on_drag("left")(self._drag_of(geom))
        self._arrow_scale = 1.0 / (_NEWTONS_PER_METRE * max(float(model.body_mass.sum()), 1e-6))
        self._arrow = server.scene.add_arrows(
            "/world/force",
            np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]),
            _ARROW,
            shaft_radius=0.015 * extent,
            head_radius=0.04 * extent,
            head_length=0.08 * extent,
            visible=False,
        )

    def show(self, pose: Pose) -> None:
        """Moves everything to its place."""
        root = pose.position[self._simulation.model.body_geomadr[self._simulation.root]]
        self._origin = np.array([root[0], root[1], 0.0])
        self._world.position = tuple(-self._origin)
        shift = np.mod(self._origin[:2], self._tile * 2)
        self._ground.position = (-shift[0], -shift[1], self._floor_height)
        for geom, handle in self._geoms.items():
            handle.position, handle.wxyz = tuple(pose.position[geom]), tuple(pose.rotation[geom])
        self._show_force()

    def pull_in_world(self) -> Pull | None:
        """How the mouse pulls the robot, with its target in the world."""
        pull = self.pull
        return None if pull is None else pull._replace(target=pull.target + self._origin)

    def _show_force(self) -> None:
        simulation, pull = self._simulation, self.pull_in_world()
        if pull is not None:
            start, end = simulation.grabbed_point(pull.geom, pull.local), pull.target
        else:
            start = simulation.data.xipos[simulation.root]
            end = start + simulation.pushed * self._arrow_scale
        visible = bool(np.linalg.norm(end - start) > 1e-3)
        if visible:
            self._arrow.points = np.array([[start, end]], np.float32)
        if visible != self._arrow.visible:
            self._arrow.visible = visible

    def _drag_of(self, geom: int) -> Callable[[Any], Any]:
        """The callback of a drag of this geom; a coroutine, because viser then keeps the events' order."""

        async def drag(event: Any) -> None:
            if event.phase == "end":
                self.pull = None
                return
            target, pull = np.array(event.end_position), self.pull
            if event.phase == "start" or pull is None:
                data = self._simulation.data
                point = np.array(event.start_position) + self._origin - data.geom_xpos[geom]
                pull = Pull(geom, data.geom_xmat[geom].reshape(3, 3).T @ point, target)
            self.pull = pull._replace(target=target)

        return drag

    def _look(self, server: Any, extent: float) -> None:
        height = self._floor_height + 0.5 * extent
        server.initial_camera.look_at = (0.0, 0.0, height)
        server.initial_camera.position = (0.6 * extent, -2.4 * extent, height + 0.6 * extent)

    def _add_ground(self, server: Any) -> Any:
        size = 2 * _REACH * self._tile
        return server.scene.add_grid(
            "/ground",
            width=size,
            height=size,
            cell_size=self._tile / 2,
            cell_color=_LINES_BETWEEN,
            section_size=2 * self._tile,
            section_color=_LINE,
            plane_color=_FLOOR,
            plane_opacity=1.0,
            shadow_opacity=0.3,
            fade_distance=0.4 * size,
            position=(0.0, 0.0, self._floor_height),
        )


def _light(server: Any, extent: float) -> None:
    """Plain lights; viser's own picture of a hall as the light bleaches everything where a CPU draws."""
    server.scene.configure_environment_map(None)
    server.scene.configure_default_lights(False)
    server.scene.add_light_ambient("/lights/sky", intensity=1.2)
    above = (extent, -2 * extent, 4 * extent)
    server.scene.add_light_directional("/lights/sun", intensity=2.0, position=above, cast_shadow=True)


def _extent(model: mujoco.MjModel) -> float:
    """The longest side of the robot at rest, in metres."""
    data, geoms = mujoco.MjData(model), body_geoms(model)
    mujoco.mj_kinematics(model, data)
    if not len(geoms):
        return float(model.stat.extent)
    low, high = boxes(data, geoms)
    return float((high.max(axis=0) - low.min(axis=0)).max())


def _furniture(model: mujoco.MjModel) -> list[int]:
    """Visible geoms that do not move, without the ground."""
    fixed = (model.body_weldid[model.geom_bodyid] == 0) & (model.geom_rgba[:, 3] > 0)
    return [int(geom) for geom in np.flatnonzero(fixed) if model.geom_type[geom] != int(_KIND.mjGEOM_PLANE)]


def _add(server: Any, model: mujoco.MjModel, geom: int, mesh: trimesh.Trimesh) -> Any:
    """One geom in viser's scene."""
    return server.scene.add_mesh_simple(
        f"/world/{geom}",
        np.asarray(mesh.vertices),
        np.asarray(mesh.faces),
        color=geom_color(model, geom),
        flat_shading=int(model.geom_type[geom]) not in _ROUND,
    )


def mesh_of(model: mujoco.MjModel, geom: int) -> trimesh.Trimesh | None:
    """The shape of a geom in its own frame, in metres; None for one that is not shown (a height field)."""
    kind, size = int(model.geom_type[geom]), model.geom_size[geom]
    if kind == int(_KIND.mjGEOM_SPHERE):
        return trimesh.creation.icosphere(3, size[0])
    if kind == int(_KIND.mjGEOM_ELLIPSOID):
        return trimesh.creation.icosphere(3, 1.0).apply_scale(size)
    if kind == int(_KIND.mjGEOM_CAPSULE):
        capsule = trimesh.creation.capsule(2 * size[1], size[0])
        return capsule.apply_translation(-capsule.bounds.mean(axis=0))
    if kind == int(_KIND.mjGEOM_CYLINDER):
        return trimesh.creation.cylinder(size[0], 2 * size[1])
    if kind == int(_KIND.mjGEOM_BOX):
        return trimesh.creation.box(2 * size)
    if kind == int(_KIND.mjGEOM_MESH):
        mesh = int(model.geom_dataid[geom])
        vertex, face = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        return trimesh.Trimesh(
            model.mesh_vert[vertex : vertex + int(model.mesh_vertnum[mesh])],
            model.mesh_face[face : face + int(model.mesh_facenum[mesh])],
            process=False,
        )
    return None
