"""Looks for a hang of the ``mjx`` backend on several host devices: ``python -m mjxppo.measure.hang``.

Batched LAPACK inside a sharded program hangs XLA:CPU (stock MJX did in every run of this kind). Each repetition steps
4096 half_cheetahs over all local devices; a repetition that takes far longer than the others is a hang, and the
program ends with exit code 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time

from mjxppo.envs.locomotion import gymnasium_model
from mjxppo.measure.physics import _prepare
from mjxppo.measure.visited_states import XML_FILE, States, random_states


def main() -> None:
    """Runs the repetitions and prints one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="half_cheetah")
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--num-steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds until a repetition counts as hung")
    args = parser.parse_args()

    model = gymnasium_model(XML_FILE[args.task])
    states = random_states(model, args.task, 1024)
    states = States(*(x[[i % 1024 for i in range(args.num_envs)]] for x in states))
    faulthandler.dump_traceback_later(args.limit, exit=True)
    one_round = _prepare("mjx", model, args.task, states, args.num_steps, seed=0)
    for i in range(args.repeats):
        faulthandler.dump_traceback_later(args.limit, exit=True)
        start = time.perf_counter()
        one_round()
        print(f"{i + 1}/{args.repeats}: {time.perf_counter() - start:.2f} s", file=sys.stderr, flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
