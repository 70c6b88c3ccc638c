from __future__ import annotations

import asyncio
import threading
import time

from deployments.admission import DeadlinePassed
from deployments.batcher import Batcher, OneThread


class Doubler:
    """Doubles numbers; remembers its batches. Fails for negative ones, and as a whole for a batch with None.

    The first batch says in `started` that it runs, and waits for `go_on`.
    """

    def __init__(self) -> None:
        self.batches, self.threads = [], set()
        self.started, self.go_on = threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.go_on.wait(10)
        if None in items:
            raise RuntimeError("whole batch")
        return [item * 2 if item >= 0 else ValueError(str(item)) for item in items]

    async def is_busy(self) -> None:
        assert await asyncio.to_thread(self.started.wait, 10)


def gather(run, items, **options):
    async def main():
        batcher = Batcher(OneThread(run), **options)
        return await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True)

    return asyncio.run(main())


def free_doubler() -> Doubler:
    double = Doubler()
    double.go_on.set()
    return double


def test_what_waits_while_one_batch_runs_shares_the_next():
    double = Doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=4)
        first = asyncio.create_task(batcher.submit(0))
        await double.is_busy()
        rest = [asyncio.create_task(batcher.submit(item)) for item in range(1, 7)]
        await asyncio.sleep(0)  # lets them line up
        double.go_on.set()
        return await asyncio.gather(first, *rest)

    outcomes = asyncio.run(main())
    assert double.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [each.value for each in outcomes] == [0, 2, 4, 6, 8, 10, 12]
    assert [each.batch_size for each in outcomes] == [1, 4, 4, 4, 4, 2, 2]
    assert outcomes[5].queue_s >= outcomes[1].run_s  # it waited for that batch
    assert len(double.threads) == 1 and threading.get_ident() not in double.threads


def test_an_item_fails_alone():
    outcomes = gather(free_doubler(), [1, -2, 3], max_batch_size=8)
    assert [outcomes[0].value, outcomes[2].value] == [2, 6]
    assert isinstance(outcomes[1], ValueError) and str(outcomes[1]) == "-2"


def test_a_failed_batch_fails_its_items_and_the_next_one_runs():
    outcomes = gather(free_doubler(), [1, None, 3], max_batch_size=2)
    assert [type(each) for each in outcomes[:2]] == [RuntimeError, RuntimeError] and outcomes[2].value == 6


def test_an_idle_model_waits_for_more_only_where_told_to():
    assert gather(free_doubler(), [1], max_batch_size=8, wait_s=0.05)[0].queue_s >= 0.05
    full = gather(free_doubler(), [1, 2], max_batch_size=2, wait_s=3600)  # full, so there is nothing to wait for
    assert [each.value for each in full] == [2, 4]


async def ask_again(batcher: Batcher, name: int, times: int) -> None:
    """A caller whose next request comes later than those of callers with smaller names."""
    for _ in range(times):
        await batcher.submit(name)
        for _ in range(name):
            await asyncio.sleep(0)


def test_callers_that_were_answered_together_leave_together_again(monkeypatch):
    monkeypatch.setattr("deployments.batcher._PATIENCE", 1e9)  # all come back in time
    double = free_doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=8)
        await asyncio.gather(*(ask_again(batcher, name, times=3) for name in (10, 20, 30)))

    asyncio.run(main())
    assert [sorted(each) for each in double.batches] == [[10, 20, 30]] * 3


def test_callers_in_two_groups_become_one(monkeypatch):
    monkeypatch.setattr("deployments.batcher._PATIENCE", 1e9)
    double = Doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=8)
        first = asyncio.create_task(ask_again(batcher, 10, times=2))
        await double.is_busy()
        rest = [asyncio.create_task(ask_again(batcher, name, times=1)) for name in (20, 30)]
        await asyncio.sleep(0)  # lets them line up
        double.go_on.set()
        await asyncio.gather(first, *rest)

    asyncio.run(main())
    assert [sorted(each) for each in double.batches] == [[10], [10, 20, 30]]


def test_a_caller_alone_never_waits_for_others(monkeypatch):
    monkeypatch.setattr("deployments.batcher._PATIENCE", 1e9)
    double = free_doubler()
    asyncio.run(asyncio.wait_for(ask_again(Batcher(OneThread(double), max_batch_size=8), 1, times=3), 10))
    assert double.batches == [[1]] * 3


def test_who_does_not_come_back_is_not_waited_for_long():
    double = free_doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=8)
        await asyncio.gather(*(batcher.submit(item) for item in (1, 2, 3)))
        await asyncio.wait_for(batcher.submit(4), 10)

    asyncio.run(main())
    assert double.batches == [[1, 2, 3], [4]]


def test_who_left_takes_no_place():
    double = Doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=2)
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(4)]
        await double.is_busy()
        tasks[2].cancel()
        double.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert double.batches == [[0, 1], [3]] and isinstance(outcomes[2], asyncio.CancelledError)


def test_it_rests_between_loads():
    double = free_doubler()

    async def main():
        thread = OneThread(double)
        batcher = Batcher(thread, max_batch_size=2)
        for item in range(2):
            await batcher.submit(item)
            await thread.check()

    asyncio.run(main())
    assert double.batches == [[0], [1]]


def test_interactive_goes_first_and_bulk_gets_one_place_in_each_batch():
    double = Doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=3)
        tasks = [asyncio.create_task(batcher.submit(0))]
        await double.is_busy()
        tasks += [asyncio.create_task(batcher.submit(item, bulk=True)) for item in (101, 102, 103, 104)]
        tasks += [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await asyncio.sleep(0)
        double.go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert double.batches == [[0], [1, 2, 101], [3, 102, 103], [104]]


def test_what_comes_too_late_is_dropped_before_the_model():
    double = Doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=3)
        first = asyncio.create_task(batcher.submit(0))
        await double.is_busy()
        late = asyncio.create_task(batcher.submit(1, deadline=time.time() - 1))
        good = asyncio.create_task(batcher.submit(2, deadline=time.time() + 60))
        await asyncio.sleep(0)
        double.go_on.set()
        return await asyncio.gather(first, late, good, return_exceptions=True)

    _, late, good = asyncio.run(main())
    assert isinstance(late, DeadlinePassed) and good.value == 4
    assert double.batches == [[0], [2]]


def test_what_nobody_waits_for_is_stopped_and_the_rest_goes_on():
    stopped, started = [], asyncio.Event()

    async def run(items):
        try:
            started.set()
            await asyncio.Event().wait() if 0 in items else None
        except asyncio.CancelledError:
            stopped.append(items)
            raise
        return items

    async def main():
        batcher = Batcher(run, max_batch_size=2)
        first, second, third = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await started.wait()
        second.cancel()
        await asyncio.sleep(0)
        assert not stopped  # the first still waits
        first.cancel()
        return await third

    assert asyncio.run(main()).value == 2
    assert stopped == [[0, 1]]


def test_a_thread_that_nobody_waits_for_is_not_given_the_next_batch_before_it_is_free():
    double = Doubler()

    async def main():
        batcher = Batcher(OneThread(double), max_batch_size=2)
        first = asyncio.create_task(batcher.submit(0))
        await double.is_busy()
        first.cancel()
        rest = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0)
        double.go_on.set()
        await asyncio.gather(*rest)

    asyncio.run(main())
    assert double.batches == [[0], [1, 2]]


def test_several_runs_at_a_time_share_what_waits():
    batches, returned = [], asyncio.Event()

    async def run(items):
        batches.append(items)
        await returned.wait()
        return items

    async def main():
        batcher = Batcher(run, max_batch_size=2, num_at_once=2)
        tasks = []
        for item in range(5):
            tasks.append(asyncio.create_task(batcher.submit(item)))
            await asyncio.sleep(0.001)
        assert batches == [[0], [1]]  # each at once while a place is free
        returned.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert batches == [[0], [1], [2, 3], [4]]


class Gate:
    """A run at a time ends for each `release`."""

    def __init__(self) -> None:
        self.batches, self._ends = [], []

    async def __call__(self, items):
        self.batches.append(items)
        self._ends.append(asyncio.Event())
        await self._ends[-1].wait()
        return items

    async def release(self, index: int) -> None:
        self._ends[index].set()
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_beside_large_batches_a_small_one_waits_for_company():
    gate = Gate()

    async def main():
        batcher = Batcher(gate, max_batch_size=4, num_at_once=2)
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(8)]
        await settled()
        assert gate.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]  # shared out
        tasks += [asyncio.create_task(batcher.submit(item)) for item in (8, 9, 10)]
        await gate.release(0)
        assert len(gate.batches) == 2  # three are fewer than four
        tasks.append(asyncio.create_task(batcher.submit(11)))
        await settled()
        assert gate.batches[2:] == [[8, 9, 10, 11]]
        tasks.append(asyncio.create_task(batcher.submit(12)))
        await gate.release(1)
        assert len(gate.batches) == 3
        await gate.release(2)
        assert gate.batches[3:] == [[12]]  # alone, it waits for nobody
        await gate.release(3)
        assert [each.value for each in await asyncio.gather(*tasks)] == list(range(13))

    asyncio.run(main())


def test_what_comes_all_at_once_is_shared_out():
    gate = Gate()

    async def main():
        batcher = Batcher(gate, max_batch_size=8, num_at_once=2)
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(6)]
        await settled()
        assert gate.batches == [[0, 1, 2], [3, 4, 5]]
        for index in range(2):
            await gate.release(index)
        await asyncio.gather(*tasks)

    asyncio.run(main())
