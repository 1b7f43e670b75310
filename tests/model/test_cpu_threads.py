import os

import pytest

from aict_hf.model.cpu_threads import cpu_threads


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("2,1", 2)])
def test_the_environment_sets_the_number_of_threads(monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cpu_threads() == threads


@pytest.mark.parametrize("asked", ["", "0", "many"])
def test_otherwise_there_is_a_thread_for_each_processor(monkeypatch, asked):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    assert cpu_threads() == 3
