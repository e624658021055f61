"""Plots learning curves of runs: the same program as ``mjxppo plot``."""

from _bootstrap import run

if __name__ == "__main__":
    run("plot")
