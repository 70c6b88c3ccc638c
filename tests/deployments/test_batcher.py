from __future__ import annotations

import asyncio
import threading
import time

import pytest

from deployments.batcher import Batcher


class Doubler:
    """Doubles numbers, slowly; remembers its batches. Fails for negative ones, and as a whole for a batch with None."""

    def __init__(self, duration_s: float = 0.02) -> None:
        self.duration_s, self.batches, self.threads = duration_s, [], set()

    def __call__(self, items):
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        time.sleep(self.duration_s)
        if None in items:
            raise RuntimeError("whole batch")
        return [item * 2 if item >= 0 else ValueError(str(item)) for item in items]


def gather(run, items, **options):
    async def main():
        batcher = Batcher(run, **options)
        return await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True)

    return asyncio.run(main())


def test_what_waits_while_one_batch_runs_shares_the_next():
    double = Doubler()

    async def main():
        batcher = Batcher(double, max_batch_size=4)
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.005)  # the model is busy with 0 now
        return await asyncio.gather(first, *(batcher.submit(item) for item in range(1, 7)))

    outcomes = asyncio.run(main())
    assert double.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [each.value for each in outcomes] == [0, 2, 4, 6, 8, 10, 12]
    assert [each.batch_size for each in outcomes] == [1, 4, 4, 4, 4, 2, 2]
    assert outcomes[0].queue_s < 0.005 < outcomes[5].queue_s
    assert len(double.threads) == 1 and threading.get_ident() not in double.threads


def test_an_item_fails_alone():
    outcomes = gather(Doubler(), [1, -2, 3], max_batch_size=8)
    assert [outcomes[0].value, outcomes[2].value] == [2, 6]
    assert isinstance(outcomes[1], ValueError) and str(outcomes[1]) == "-2"


def test_a_failed_batch_fails_its_items_and_the_next_one_runs():
    double = Doubler()
    outcomes = gather(double, [1, None, 3], max_batch_size=2)
    assert [type(each) for each in outcomes[:2]] == [RuntimeError, RuntimeError] and outcomes[2].value == 6


def test_an_idle_model_waits_only_where_told_to():
    assert gather(Doubler(0), [1], max_batch_size=8)[0].queue_s < 0.02
    assert gather(Doubler(0), [1], max_batch_size=8, wait_s=0.05)[0].queue_s > 0.04
    assert gather(Doubler(0), [1, 2], max_batch_size=2, wait_s=5)[0].queue_s < 1  # full, so there is nothing to wait for


def test_who_left_takes_no_place():
    double = Doubler()

    async def main():
        batcher = Batcher(double, max_batch_size=2)
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(4)]
        await asyncio.sleep(0.005)
        tasks[2].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert double.batches == [[0, 1], [3]] and isinstance(outcomes[2], asyncio.CancelledError)


@pytest.mark.parametrize("num_loops", [2])
def test_it_rests_between_loads(num_loops):
    double = Doubler(0)

    async def main():
        batcher = Batcher(double, max_batch_size=2)
        for item in range(num_loops):
            await batcher.submit(item)
            await batcher.check()

    asyncio.run(main())
    assert double.batches == [[0], [1]]
