#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=2
#SBATCH --time=5
#= state: completed
#= out: world of 4
srun --mpi=pmi2 "$MUSTER_MPI_TASKS/mpich/rank-report" --json > report
python3 -c "import json; print('world of', json.load(open('report'))['ranks'])"
