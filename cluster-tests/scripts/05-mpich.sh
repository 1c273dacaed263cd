#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=5
#= state: completed
#= out: world of 4
export PATH="$MPICH_HOME/bin:$PATH"
mpiexec -n $SLURM_NTASKS "$MUSTER_MPI_TASKS/mpich/rank-report" --json > report
python3 -c "import json; print('world of', json.load(open('report'))['ranks'])"
