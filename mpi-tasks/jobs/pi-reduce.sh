#!/bin/bash
#SBATCH --job-name=pi-reduce
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:05:00
#SBATCH --output=pi-reduce-%j.out

# Submit with --dependency=afterok:ARRAY_JOB_ID and the array's folder of results: pi-reduce.sh pi-ARRAY_JOB_ID
PI_REDUCE="${MUSTER_MPI_TASKS:?should name the folder that holds ompi/ and mpich/}/ompi/pi-reduce"
RESULTS=${1:?should be the folder of results, pi-ARRAY_JOB_ID}

mpirun "$PI_REDUCE" --expect-files 16 "$RESULTS"
