#!/bin/bash
#SBATCH --array=1-7:3%2
#SBATCH --output=arr-%A_%a.out
#SBATCH --time=5
#= state: completed
#= out: task 1 of 3: 1 to 7 by 3
#= out: task 4 of 3: 1 to 7 by 3
#= out: task 7 of 3: 1 to 7 by 3
echo "task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT: $SLURM_ARRAY_TASK_MIN to $SLURM_ARRAY_TASK_MAX by $SLURM_ARRAY_TASK_STEP"
