"""The browser of this machine, and how it is started."""

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def find_browser(in_ci: bool) -> str:
    """Path of the browser; without one the test fails in the continuous integration, else skips."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"no browser ({', '.join(BROWSERS)}): install Debian's package chromium"
        pytest.fail(message) if in_ci else pytest.skip(message)
    return found
