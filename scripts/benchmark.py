"""Measures physics, training and compile time: the same program as ``mjxppo benchmark``."""

from _bootstrap import run

if __name__ == "__main__":
    run("benchmark")
