"""Does rounding the networks' products as a GPU does cost return? ``python scripts/tf32_study.py --out runs/tf32``.

A GPU's tensor cores round both factors of a float32 product to TF32: 8 bits of exponent, 10 of mantissa. This trains
five seeds of HalfCheetah and of Hopper on any device, once with float32 products and once with the factors of every
product of the networks rounded like that, forward and backward, and evaluates both in C MuJoCo. It resumes where it was
interrupted. Some 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import mjxppo  # first: it sets XLA's flags  # noqa: F401

import jax  # isort: skip
import numpy as np
from flax import linen
from jax import lax

from mjxppo import train_policies
from mjxppo.console import score
from mjxppo.files import read_json, write_json
from mjxppo.ppo import networks

Array = jax.Array

STEPS = {"half_cheetah": 6_000_000, "hopper": 12_000_000}


def rounded(x: Array) -> Array:
    """``x`` with its mantissa rounded to 10 bits."""
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10)


@jax.custom_vjp
def product(x: Array, weights: Array) -> Array:
    """``x`` [..., n] times ``weights`` [n, m], their factors rounded; so are those of its derivatives."""
    return rounded(x) @ rounded(weights)


def _forward(x: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, weights), (rounded(x), rounded(weights))


def _backward(factors: tuple[Array, Array], of_output: Array) -> tuple[Array, Array]:
    x, weights = factors
    of_output = rounded(of_output)
    samples = x.reshape(-1, x.shape[-1])
    return of_output @ weights.T, samples.T @ of_output.reshape(-1, of_output.shape[-1])


product.defvjp(_forward, _backward)


def dot_general(x: Array, weights: Array, dimensions: Any, **_: Any) -> Array:
    """``lax.dot_general`` as ``linen.Dense`` calls it, with rounded factors."""
    assert dimensions == (((x.ndim - 1,), (0,)), ((), ()))
    return product(x, weights)


@contextmanager
def tf32() -> Iterator[None]:
    """Builds networks whose products round."""
    with mock.patch.object(networks.nn, "Dense", partial(linen.Dense, dot_general=dot_general)):
        yield


def returns(env: str, seeds: range, steps: int, directory: Path) -> list[float]:
    """Mean return of each seed's policy, trained in ``directory`` unless it is there already."""
    if not (directory / "eval.json").is_file():
        resume = (directory / "config.yaml").is_file()
        fields: dict[str, Any] = {"seed": seeds[0], "num_seeds": len(seeds), "total_env_steps": steps}
        train_policies(env, run_dir=directory, evaluate=True, resume=resume, **({} if resume else fields))
    result = read_json(directory / "eval.json") or {}
    return [float(mean) for mean in result["groups"][0]["means"]]


def main() -> None:
    """Trains what is missing, and writes and prints the returns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tf32"))
    parser.add_argument("--tasks", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--steps", type=int, help="environment steps of each seed, instead of the task's")
    parser.add_argument("--seed", type=int, default=300, help="the first of five seeds")
    given = parser.parse_args()
    results, seeds = {}, range(given.seed, given.seed + 5)
    for env in given.tasks:
        steps = given.steps or STEPS[env]
        plain = returns(env, seeds, steps, given.out / env / "float32")
        with tf32():
            coarse = returns(env, seeds, steps, given.out / env / "tf32")
        results[env] = {"steps": steps, "seeds": list(seeds), "float32": plain, "tf32": coarse}
        print(f"{env}: float32 {score(np.mean(plain))}, TF32 {score(np.mean(coarse))}")
    write_json(given.out / "results.json", results)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
