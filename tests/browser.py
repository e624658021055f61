"""A real headless browser for tests, through Chrome's own protocol, so that no driver has to be installed."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """A program of Chrome's family."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser that lives as long as the block."""

    def __init__(self, profile: Path):
        self.requests: list[str] = []
        """What the page asked for, itself included."""
        self.complaints: list[str] = []
        """Errors and warnings on the console, and uncaught exceptions."""
        self.errors: list[str] = []
        """Those that are no warnings."""
        self._profile = profile
        self._number = 0
        self._session: str | None = None

    def __enter__(self) -> Browser:
        from websockets.sync.client import connect

        command = [find(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={self._profile}", "about:blank"]
        with contextlib.ExitStack() as stack:
            # A group of its own, because a browser is many processes.
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            address = next((found[0] for line in process.stderr if (found := re.search(r"ws://\S+", line))), None)
            assert address is not None, "the browser did not start"
            self._socket = stack.enter_context(connect(address, max_size=None))
            self._stack = stack.pop_all()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol; returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=100))
            self._note(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _note(self, event: dict[str, Any]) -> None:
        method, values = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(values["exceptionDetails"]))
            self.errors.append(self.complaints[-1])
        elif (method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning")) or (
            method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning")
        ):
            self.complaints.append(str(values))
            if "error" in (values.get("type"), values.get("entry", {}).get("level")):
                self.errors.append(self.complaints[-1])

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self, x: int = 0, y: int = 0, width: int = 800, height: int = 600) -> np.ndarray:
        """The pixels [H, W, 3] of a part of the page."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        content = base64.b64decode(self.call("Page.captureScreenshot", clip=clip)["data"])
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def size(self, width: int, height: int) -> None:
        """Makes the window this large, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Moves, presses or releases (``mouseMoved``, ``mousePressed``, ``mouseReleased``) the left button."""
        button = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def open(self, page: Path | str) -> None:
        """Loads a file or an address and waits until it has loaded."""
        self.call("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        deadline = time.monotonic() + 100
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.href") == "about:blank":
            assert time.monotonic() < deadline, "the page does not finish loading"
            time.sleep(0.05)
