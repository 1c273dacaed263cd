"""submitit: arrays, several ranks on several nodes, a failure, and a checkpoint that is queued again."""

import os
import sys
import time
from pathlib import Path

import submitit


def add(a, b):
    return a + b


def fail():
    raise ValueError("on purpose")


def rank():
    env = submitit.JobEnvironment()
    return env.global_rank, env.num_tasks, env.node


class Counter:
    """Goes on from where it was when its time was over."""

    def __init__(self, marker):
        self.marker = marker
        self.begun = 0

    def __call__(self):
        self.begun += 1
        if self.begun > 1:
            return self.begun, os.environ.get("SLURM_RESTART_COUNT")
        Path(self.marker).touch()
        time.sleep(100)
        raise RuntimeError("nobody interrupted it")

    def checkpoint(self):
        return submitit.helpers.DelayedSubmission(self)


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.05)


def main():
    # The functions are found by their module's name in the job.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    executor = submitit.AutoExecutor(folder="submitit/%j", cluster="slurm")
    executor.update_parameters(timeout_min=2, slurm_partition="main", slurm_array_parallelism=2)
    array = executor.map_array(add, [1, 2, 3], [10, 20, 30])
    bad = executor.submit(fail)
    executor.update_parameters(nodes=2, tasks_per_node=2, slurm_array_parallelism=1)
    gang = executor.submit(rank)
    executor.update_parameters(nodes=1, tasks_per_node=1)
    again = executor.submit(Counter("begun"))

    assert [job.result() for job in array] == [11, 22, 33]
    assert isinstance(bad.exception(), submitit.core.utils.FailedJobError) and "on purpose" in str(bad.exception())
    ranks = gang.results()
    assert [r[:2] for r in ranks] == [(i, 4) for i in range(4)], ranks
    assert len({r[2] for r in ranks}) == 2, ranks
    wait_for("begun")
    again._interrupt(timeout=False)
    assert again.result() == (2, "1"), again.result()
    print("submitit: all as expected")


if __name__ == "__main__":
    sys.exit(main())
