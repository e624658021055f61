"""Runs a trained policy in Gymnasium's C MuJoCo: the same program as ``mjxppo evaluate``."""

from _bootstrap import run

if __name__ == "__main__":
    run("evaluate")
