#!/bin/bash
# As submitit writes it: an array whose tasks are steps with files of their own.
#SBATCH --array=1-2
#SBATCH --ntasks=2
#SBATCH --output=steps-%A_%a.log --open-mode=append
#SBATCH --time=5
#= state: completed
#= out: 2 files of task 1
#= out: 2 files of task 2
srun --unbuffered --output "${SLURM_ARRAY_JOB_ID}_%a_%t.txt" --error "%A_%a_%t.err" sh -c 'echo "$SLURM_JOB_ID"'
count=$(grep -lx "$SLURM_JOB_ID" "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"_[01].txt | wc -l)
echo "$count files of task $SLURM_ARRAY_TASK_ID"
ls "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}_0.err" > /dev/null
