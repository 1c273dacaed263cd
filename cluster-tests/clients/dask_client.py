"""dask-jobqueue: workers that are jobs, and that go when the cluster is closed."""

import os
import sys

from dask.distributed import Client
from dask_jobqueue import SLURMCluster


def square(x):
    return x * x, os.environ["SLURM_JOB_ID"]


def main():
    address = os.environ["HEAD_ADDRESS"]
    cluster = SLURMCluster(
        queue="main",
        cores=1,
        memory="400MB",
        walltime="00:03:00",
        python=sys.executable,
        scheduler_options={"host": address, "dashboard_address": ":0"},
        log_directory="dask-logs",
    )
    print(cluster.job_script())
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=2)
        client.wait_for_workers(2, timeout=120)
        done = client.gather(client.map(square, range(50)))
    assert [value for value, _ in done] == [x * x for x in range(50)]
    assert all(job.isdigit() for _, job in done)
    print("dask-jobqueue: all as expected")


if __name__ == "__main__":
    sys.exit(main())
