"""Items are used in a thread, in order, while the next ones are made."""

from __future__ import annotations

import threading

import pytest

from pvio.concurrency.background import BackgroundConsumer


def test_all_items_are_handed_on_in_order():
    found: list[int] = []
    with BackgroundConsumer(found.append, max_pending=2) as consumer:
        for number in range(50):
            consumer.put(number)
    assert found == list(range(50))


def test_making_continues_while_an_item_is_used():
    made_next, waited = threading.Event(), []
    with BackgroundConsumer(lambda _: waited.append(made_next.wait(10)), max_pending=1) as consumer:
        consumer.put(1)
        consumer.put(2)
        made_next.set()
    # Had the first item to be done with before the next one is made, nothing would have come.
    assert waited == [True, True]


def test_only_so_many_items_wait():
    go_on, three_are_put, four_are_put = (threading.Event() for _ in range(3))
    n_put = 0

    def put_all() -> None:
        nonlocal n_put
        with BackgroundConsumer(lambda _: go_on.wait(60), max_pending=2) as consumer:
            for number in range(10):
                consumer.put(number)
                n_put += 1
                if n_put == 3:
                    three_are_put.set()
                if n_put == 4:
                    four_are_put.set()

    thread = threading.Thread(target=put_all)
    thread.start()
    assert three_are_put.wait(30)  # one is in use
    assert not four_are_put.wait(0.2)
    go_on.set()
    thread.join(30)
    assert n_put == 10


def refuse_three(number: int) -> None:
    if number == 3:
        raise ValueError("not three")


def test_what_the_consumer_raises_comes_back():
    def put_all() -> None:
        with BackgroundConsumer(refuse_three, max_pending=1) as consumer:
            for number in range(100):
                consumer.put(number)

    with pytest.raises(ValueError, match="not three"):
        put_all()


def test_what_the_consumer_raises_last_comes_back():
    with (
        pytest.raises(ValueError, match="not three"),
        BackgroundConsumer(refuse_three, max_pending=9) as consumer,
    ):
        consumer.put(3)


def test_an_exception_of_the_maker_leaves_what_waits(monkeypatch: pytest.MonkeyPatch):
    found: list[int] = []
    in_use, go_on = threading.Event(), threading.Event()
    join = threading.Thread.join

    def use(number: int) -> None:
        in_use.set()
        assert go_on.wait(60)
        found.append(number)

    def fail(consumer: BackgroundConsumer[int]) -> None:
        for number in range(3):
            consumer.put(number)
        assert in_use.wait(60)
        raise KeyError("maker")

    def join_at_the_end(thread: threading.Thread, timeout: float | None = None) -> None:
        # The block has ended: what waits is left from now on.
        go_on.set()
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join_at_the_end)

    with pytest.raises(KeyError, match="maker"), BackgroundConsumer(use, max_pending=5) as consumer:
        fail(consumer)
    assert found == [0]
