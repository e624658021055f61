"""Trains a policy: the same program as ``mjxppo train``."""

from _bootstrap import run

if __name__ == "__main__":
    run("train")
