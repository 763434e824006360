"""A headless Chromium, controlled over its DevTools protocol; no package needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
)


def find_browser() -> str | None:
    """The program: that of $CHROMIUM, or the first of NAMES that is installed. None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of a browser. Messages go through the pipes it was started with; a zero byte ends each."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, os.fdopen(from_browser, "rb", buffering=0)
        self._unread, self._sent, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The reply to a command; events before it go to `events`."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        os.write(
            self._to, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while True:
            received = self._read()
            if received.get("id") == self._sent:
                assert "error" not in received, received
                return dict(received["result"])
            self.events.append(received)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            piece = self._from.read(1 << 16)
            assert piece, "the browser has ended"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def visit(self, address: str, *, width: int = 1280, height: int = 800) -> None:
        """Open an address in a window of the given size; returns once everything on the page is loaded and drawn."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self("Page.navigate", url=address)
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")
        self.settle()

    def complaints(self) -> list[str]:
        """What pages have reported since `events` was cleared: errors and warnings of the console, exceptions."""
        found = []
        for event in self.events:
            match event:
                case {"method": "Log.entryAdded", "params": {"entry": {"level": "error" | "warning", "text": text}}}:
                    found.append(str(text))
                case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": {"text": text}}}:
                    found.append(str(text))
                case {"method": "Runtime.consoleAPICalled", "params": {"type": "error" | "warning" | "assert"}}:
                    found.append(str(event["params"]["args"]))
        return found

    def open(
        self, page: Path, *, width: int = 1280, height: int = 800, phone: bool = False, theme: str = "light"
    ) -> None:
        """Open a file in a window of the given size; returns once it is loaded and drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self("Emulation.setDeviceMetricsOverride", **size)
        self("Emulation.setTouchEmulationEnabled", enabled=phone)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self("Page.navigate", url=page.resolve().as_uri())
        self.run(
            "new Promise(done => { const look = () => document.querySelector('main')?.hidden === false"
            " ? done() : setTimeout(look, 20); look(); })"
        )
        self.settle()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; promises are awaited."""
        reply = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def settle(self) -> None:
        """Wait until pending changes are drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """mouseMoved, mousePressed or mouseReleased, at a place in the window."""
        self(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="left" if kind != "mouseMoved" else "none",
            clickCount=1,
        )
        self.settle()

    def touch(self, x: float, y: float) -> None:
        """A tap."""
        self("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle()

    def press(self, key: str, *, shift: bool = False) -> None:
        """A key of the keyboard, by its DOM name."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                modifiers=8 if shift else 0,
                **(text if kind == "keyDown" else {}),
            )
        self.settle()

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def open_tab(program: str, profile: Path) -> Iterator[Tab]:
    """A tab in a new browser, which is closed afterwards. profile: an empty folder for the browser."""
    to_browser, from_browser = os.pipe(), os.pipe()

    def hand_over() -> None:
        # The browser reads commands from descriptor 3 and answers on 4.
        ends = os.dup(to_browser[0]), os.dup(from_browser[1])
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=hand_over,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        yield Tab(to_browser[1], from_browser[0])
    finally:
        process.terminate()
        process.wait()
        os.close(to_browser[1])
