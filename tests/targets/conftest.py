"""What tests of several kinds of targets share."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import pytest


@pytest.fixture
def one_worker():
    """A pool of one process, which is not waited for where it hangs: ``with one_worker("fork") as pool``."""

    @contextmanager
    def opened(start):
        others = multiprocessing.active_children()  # such as those that joblib keeps
        with ProcessPoolExecutor(1, multiprocessing.get_context(start)) as pool:
            try:
                yield pool
            finally:
                for worker in multiprocessing.active_children():
                    if worker not in others:
                        worker.kill()

    return opened
