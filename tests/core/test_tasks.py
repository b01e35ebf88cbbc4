"""Shares of work by number."""

from __future__ import annotations

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.core.tasks import Task


def test_tasks_share_all_items_and_none_twice() -> None:
    shares = [list(Task.parse(f"{number}/3").share(range(8))) for number in (1, 2, 3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", ""])
def test_what_names_no_task_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="i/n"):
        Task.parse(text)
