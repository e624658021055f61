"""Writes a trained policy to a file that other programs read: the same program as ``mjxppo export``."""

from _bootstrap import run

if __name__ == "__main__":
    run("export")
