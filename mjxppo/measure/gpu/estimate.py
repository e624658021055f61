"""An estimate of a program's speed from its launches, bytes and operations, with the assumptions that it rests on.

Each launch takes the longest of three times: of being launched, of moving its bytes, of its operations. What runs on an
idle device one after the other is added up. Nothing here is measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mjxppo.measure.gpu.device import Device
from mjxppo.measure.gpu.launches import OURS, PRODUCT, Census, Launch
from mjxppo.measure.gpu.topology import Kernel
from mjxppo.measure.gpu.traced import TracedKernel

WARP = 32
"""Threads of a warp."""
SCHEDULERS = 4
"""Warps that an SM advances at the same time."""


@dataclass(frozen=True)
class Assumptions:
    """Numbers that no compiler tells; from NVIDIA's documents and common experience."""

    launch_us: float = 3.0
    """A kernel that the host launches, until the next one can start (us)."""
    graph_launch_us: float = 1.5
    """A kernel in a CUDA graph, until the next one can start (us)."""
    host_wait_us: float = 15.0
    """A branch or loop that the host decides: copy, wait, launch (us)."""
    bandwidth_share: float = 0.7
    """Share of the memory's bandwidth that kernels reach."""
    arithmetic_share: float = 0.5
    """Share of the float32 operations per second that elementwise kernels reach."""
    product_share: float = 0.5
    """Float32 operations per second in products of matrices, in units of the device's without tensor cores: small and
    narrow products do not reach more."""
    cycles_per_instruction: float = 5.0
    """Clock cycles from one instruction of a warp to the next that needs its result."""
    tensor_core_factor: float = 8.0
    """Multiply-adds in products of an own kernel in the time of one elsewhere; a half of what tensor cores could."""
    solver_iterations: float = 3.0
    """Iterations of a loop in a kernel that ends when its worlds have converged; the solver takes three or more."""


@dataclass(frozen=True)
class OwnKernel:
    """An own kernel, as traced and as assembled."""

    name: str
    programs: int
    warps: int
    """Warps of a program."""
    operations_per_thread: float
    """Operations of one thread, with the assumed iterations, without those of products of matrices."""
    products_per_thread: float
    """Operations of one thread in products of matrices."""
    registers: int | None
    spill_store_bytes: int | None
    spill_load_bytes: int | None

    def resident_warps(self, device: Device) -> int:
        """Warps of this kernel that an SM holds at the same time."""
        most = device.threads_per_core_limit // WARP
        if not self.registers:
            return most
        rounded = -(-self.registers // 8) * 8 * WARP
        return max(1, min(most, device.registers_per_core_limit // rounded))

    def seconds(self, device: Device, assumptions: Assumptions) -> float:
        """Time of one launch: each warp waits for its own results, and a scheduler fills the gaps with other warps."""
        per_sm = -(-self.programs * self.warps // device.core_count)
        resident = self.resident_warps(device)
        rounds, together = -(-per_sm // resident), min(per_sm, resident)
        cycles = max(assumptions.cycles_per_instruction, together / SCHEDULERS)
        instructions = self.operations_per_thread + self.products_per_thread / (2 * assumptions.tensor_core_factor)
        return rounds * instructions * cycles / (device.clock_rate_ghz * 1e9)


@dataclass(frozen=True)
class Estimate:
    """Seconds of the whole program, by what they are spent on."""

    launching: float
    """Launches that take longer than their work."""
    memory: float
    products: float
    own_kernels: float
    arithmetic: float
    waiting: float
    """For the host to decide."""

    @property
    def total(self) -> float:
        """Seconds of the whole program."""
        return sum(asdict(self).values())


def estimate(
    census: Census, in_graphs: float, own: dict[str, OwnKernel], device: Device, assumptions: Assumptions
) -> Estimate:
    """The time of a program; ``in_graphs`` is the number of its launches that are part of CUDA graphs."""
    total = max(census.count(), 1)
    share = in_graphs / total
    launch = (share * assumptions.graph_launch_us + (1 - share) * assumptions.launch_us) * 1e-6
    seconds = dict.fromkeys(("launching", "memory", "products", "own_kernels", "arithmetic"), 0.0)
    for each in census.launches:
        what, work = _work(each, own, device, assumptions)
        seconds[what if work > launch else "launching"] += each.times * max(work, launch)
    waits = census.conditionals + census.open_loops
    return Estimate(**seconds, waiting=waits * assumptions.host_wait_us * 1e-6)


def _work(each: Launch, own: dict[str, OwnKernel], device: Device, assumptions: Assumptions) -> tuple[str, float]:
    """What a launch spends its time on once it runs, and the seconds of that."""
    peak = 2 * device.core_count * device.fpus_per_core * device.clock_rate_ghz * 1e9
    moving = each.bytes / (assumptions.bandwidth_share * device.memory_bandwidth)
    if each.kind == OURS and each.kernel in own:
        what, computing = "own_kernels", own[each.kernel].seconds(device, assumptions)
    elif each.kind == PRODUCT:
        what, computing = "products", each.operations / (assumptions.product_share * peak)
    else:
        what, computing = "arithmetic", each.operations / (assumptions.arithmetic_share * peak)
    return (what, computing) if computing > moving else ("memory", moving)


def own_kernel(kernel: TracedKernel, assembled: dict[str, Kernel]) -> OwnKernel:
    """An own kernel with what the assembler says of it, where the name begins with ours."""
    threads = WARP * kernel.warps
    per_thread = kernel.operations / threads, kernel.products / threads
    known = kernel.name, kernel.programs, kernel.warps, *per_thread
    found = [each for full, each in assembled.items() if full.startswith(kernel.name)]
    if not found:
        return OwnKernel(*known, None, None, None)
    worst = max(found, key=lambda each: (each.spill_store_bytes + each.spill_load_bytes, each.registers))
    return OwnKernel(*known, **asdict(worst))
