"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import matplotlib
import pytest
import torch
from browsers import FLAGS, find_browser

matplotlib.use("Agg")

# The same examples on every run, on every machine; `--hypothesis-profile=explore` looks further.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Layers that a test makes by torch's own initialization are the same on every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def in_ci() -> bool:
    """Whether the continuous integration runs the tests: there a missing browser is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@pytest.fixture(scope="session")
def browser(in_ci: bool) -> Iterator:
    """One browser a process: Playwright's event loop cannot be started twice in one."""
    path = find_browser(in_ci)
    with pytest.importorskip("playwright.sync_api").sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()
