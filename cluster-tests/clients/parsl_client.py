"""Parsl: a block of two nodes whose workers srun starts."""

import os
import sys
from pathlib import Path

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider


@python_app
def where(x):
    import os

    return x + 1, os.environ["SLURMD_NODENAME"]


def main():
    programs = Path(sys.executable).parent
    provider = SlurmProvider(
        partition="main",
        nodes_per_block=2,
        init_blocks=1,
        min_blocks=1,
        max_blocks=1,
        cores_per_node=1,
        exclusive=False,
        walltime="00:05:00",
        launcher=SrunLauncher(),
        worker_init=f"export PATH={programs}:$PATH",
    )
    executor = HighThroughputExecutor(
        label="nodes",
        address=os.environ["HEAD_ADDRESS"],
        max_workers_per_node=1,
        cores_per_worker=1,
        provider=provider,
        encrypted=False,
    )
    config = Config(executors=[executor], strategy="none", usage_tracking=0, run_dir="parsl")
    with parsl.load(config):
        done = [future.result(timeout=150) for future in [where(x) for x in range(40)]]
    assert [value for value, _ in done] == list(range(1, 41))
    print("nodes:", sorted({node for _, node in done}))
    print("parsl: all as expected")


if __name__ == "__main__":
    sys.exit(main())
