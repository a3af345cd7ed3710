"""Tiny random Qwen3 models with the trainer's probes, and one child process that holds the vLLM engines.

vLLM changes its process for good (threads, environment, process group), so it never runs inside pytest's.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest
import tiny_models
import torch


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """models(tied, name): "a" and "b" are unrelated, "a+" is "a" with all weights moved by 1e-7, "p" and "q" padded."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    for tied in (True, False):
        for name, seed, shift, padding in (
            *(("a", 0, 0.0, 0), ("a+", 0, 1e-7, 0), ("b", 1, 0.0, 0)),
            *(("p", 2, 0.0, 16), ("q", 3, 0.0, 16)),
        ):
            tiny_models.build(root / f"{name}-{tied}", seed=seed, tied=tied, shift=shift, padding=padding)
    return lambda tied, name: root / f"{name}-{tied}"


@contextlib.contextmanager
def _engines() -> Iterator[Callable[..., object]]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *args, **kwargs: pool.submit(partial(function, *args, **kwargs)).result(timeout=360)
        with contextlib.suppress(BrokenProcessPool):  # several engines end slowly; how one ends has its own test
            pool.submit(os._exit, 0).result(timeout=10)


@pytest.fixture(scope="session")
def in_vllm() -> Iterator[Callable[..., object]]:
    """in_vllm(function, *args) runs a function of vllm_process.py in the process that holds the engines."""
    with _engines() as call:
        yield call


@pytest.fixture
def in_fresh_vllm() -> Iterator[Callable[..., object]]:
    """The same in a process of this test alone: a model with experts must be the first that vLLM loads."""
    with _engines() as call:
        yield call
