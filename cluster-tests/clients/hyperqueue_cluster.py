"""The rate of small tasks of HyperQueue's Python package, whose local cluster is a server and a worker in this process.

    hyperqueue_cluster.py FOLDER SLOTS TASKS

FOLDER has `nothing.sh` and a folder `out`. Writes one line of JSON: the version, and tasks a second with an output file for each.
"""

import json
import os
import sys
import time

try:
    from hyperqueue.cluster import LocalCluster, WorkerConfig
    from hyperqueue.ffi import get_version
    from hyperqueue.job import Job
except ImportError as error:
    sys.exit(f"hyperqueue_cluster.py: {sys.executable} has no HyperQueue ({error}): `{sys.executable} -m pip install hyperqueue` brings it")


def main():
    folder, (slots, tasks) = sys.argv[1], map(int, sys.argv[2:])
    # What its server says of itself goes to the standard output.
    said = os.dup(1)
    os.dup2(2, 1)
    with LocalCluster(f"{folder}/server", worker_config=WorkerConfig(cores=slots)) as cluster:
        client = cluster.client()
        job = Job(default_workdir=folder)
        outputs = [f"{folder}/out/{index}" for index in range(tasks)]
        for output in outputs:
            job.program(["/bin/sh", "nothing.sh"], stdout=output, stderr=None)
        begun = time.time()
        submitted = client.submit(job)
        # The client's own `wait_for_jobs` draws a bar as well.
        failed = client.connection.wait_for_jobs([submitted.id], lambda jobs: None)
        if failed:
            sys.exit(f"hyperqueue_cluster.py: tasks failed: {client.connection.get_failed_tasks(failed)}")
        # The package looks once a second only: when the last task began is more to the point.
        rate = tasks / (max(os.stat(output).st_mtime for output in outputs) - begun)
    os.write(said, (json.dumps({"version": get_version(), "with_files": rate}) + "\n").encode())


main()
