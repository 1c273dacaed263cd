#!/bin/bash
# Each task of an array has a job id of its own, so that scratch folders do not meet.
#SBATCH --array=0-3
#SBATCH -t 5 -o folders-%A_%a.out
#= state: completed
#= out: made 0
#= out: made 3
set -euo pipefail
mkdir "scratch-$SLURM_JOB_ID"
[ "$SLURM_JOB_ID" != "$SLURM_ARRAY_JOB_ID" ]
echo "made $SLURM_ARRAY_TASK_ID"
