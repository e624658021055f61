"""Draws a trained policy to a video: the same program as ``mjxppo render``."""

from _bootstrap import run

if __name__ == "__main__":
    run("render")
