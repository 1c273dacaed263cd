#!/bin/bash
#SBATCH --array=0-2
#SBATCH --time=5
#SBATCH --output=part_%A_%2a.out
#= state: failed
#= exit: 2
#= out: going to end with 2
echo "going to end with $SLURM_ARRAY_TASK_ID"
exit $SLURM_ARRAY_TASK_ID
