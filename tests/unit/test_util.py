import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvio.util import balance_load_lpt


def test_longest_tasks_go_first_to_the_least_loaded_worker():
    assert balance_load_lpt({"a": 3, "b": 5, "c": 4}, 2) == [["b"], ["c", "a"]]


def test_ties_go_to_the_lowest_worker_number_in_the_order_of_the_tasks():
    assert balance_load_lpt({"a": 1, "b": 1, "c": 1}, 2) == [["a", "c"], ["b"]]


def test_workers_without_work_have_an_empty_list():
    assert balance_load_lpt({"only": 7}, 3) == [["only"], [], []]
    assert balance_load_lpt({}, 2) == [[], []]


def test_a_worker_number_below_one_is_refused():
    with pytest.raises(ValueError, match="n_workers"):
        balance_load_lpt({"a": 1}, 0)


@given(st.dictionaries(st.integers(), st.integers(0, 10**6)), st.integers(1, 8))
def test_it_assigns_as_0_1_3_did(tasks, n_workers):
    loads, expected = np.zeros(n_workers), [[] for _ in range(n_workers)]
    for task, duration in sorted(tasks.items(), key=lambda item: item[1], reverse=True):
        worker = int(np.argmin(loads))
        expected[worker].append(task)
        loads[worker] += duration
    assert balance_load_lpt(tasks, n_workers) == expected
