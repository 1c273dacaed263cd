"""PSI/J: states of single jobs, and a job on two nodes."""

import sys
from datetime import timedelta
from pathlib import Path

from psij import Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1


def spec(executable, arguments, output, **resources):
    return JobSpec(
        executable=executable,
        arguments=arguments,
        stdout_path=Path(output).absolute(),
        attributes=JobAttributes(duration=timedelta(minutes=2), queue_name="main"),
        resources=ResourceSpecV1(**resources),
        launcher="srun",
    )


def main():
    executor = JobExecutor.get_instance("slurm")
    good = Job(spec("/bin/hostname", [], "psij.good", node_count=2, processes_per_node=1))
    bad = Job(spec("/bin/false", [], "psij.bad", process_count=1))
    for job in good, bad:
        executor.submit(job)
    assert good.wait().state == JobState.COMPLETED, good.status
    assert bad.wait().state == JobState.FAILED, bad.status
    assert len(set(Path("psij.good").read_text().split())) == 2
    print("psij: all as expected")


if __name__ == "__main__":
    sys.exit(main())
