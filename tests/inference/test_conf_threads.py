import pytest

from inference.conf import default_threads


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 3), (4, 3), (16, 15)])
def test_threads_leave_a_core_to_the_web_process_where_there_are_some_to_spare(cores, threads):
    assert default_threads(cores) == threads
