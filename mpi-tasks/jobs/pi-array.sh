#!/bin/bash
#SBATCH --job-name=pi-map
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --array=0-15
#SBATCH --time=00:05:00
#SBATCH --output=pi-map-%A-%a.out

PI_MAP="${MUSTER_MPI_TASKS:?should name the folder that holds ompi/ and mpich/}/ompi/pi-map"
# One folder for all elements of this array, on storage that the nodes share.
results="pi-$SLURM_ARRAY_JOB_ID"
mkdir -p "$results"

"$PI_MAP" --seed "$SLURM_ARRAY_TASK_ID" --samples 1000000 --out "$results/$SLURM_ARRAY_TASK_ID.json"
