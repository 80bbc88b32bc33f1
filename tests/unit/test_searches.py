"""When a process is searched for tables again."""

from __future__ import annotations

from itertools import pairwise

from threadwatch.names.searches import Searches


def searched(searches: Searches, polls: range, *, young: bool, price_ns: int = 0) -> list[int]:
    """Return the polls in which a process is searched that has a thread in no table in each of them."""
    found = []
    for poll in polls:
        searches.missed(poll if young else 1)
        if searches.is_due(poll, used_ns=poll):
            searches.made(poll, poll, price_ns, found=False)
            found.append(poll)
    return found


def test_nothing_is_searched_without_a_reason() -> None:
    """A process whose threads are all in its tables is not searched again."""
    assert not any(Searches().is_due(poll, poll) for poll in range(2000))


def test_young_threads_that_are_in_no_table() -> None:
    """A process that starts threads of C all the time is searched after 2, 4 … 32 polls, then each 32."""
    found = searched(Searches(), range(1, 200), young=True)
    assert found == [1, 3, 7, 15, 31, 63, 95, 127, 159, 191]


def test_old_threads_that_are_in_no_table() -> None:
    """Threads of C that are old are a reason less and less often: at last, every 512 polls."""
    found = searched(Searches(), range(3000), young=False)
    assert [after - before for before, after in pairwise(found)] == [
        *(32, 64, 128, 256),
        *[512] * (len(found) - 5),
    ]


def test_a_search_that_finds_something() -> None:
    """After a table has been found, the next young thread is searched for in the next poll."""
    searches = Searches()
    searched(searches, range(100), young=True)
    searches.made(100, 100, 0, found=True)
    searches.missed(1000)
    assert searches.is_due(101, 101)


def test_a_search_is_paid_for() -> None:
    """A process that has used less CPU time than the last search of it has taken is not searched again."""
    found = searched(Searches(), range(1, 1000), young=True, price_ns=300)
    assert found == [1, 301, 601, 901]
