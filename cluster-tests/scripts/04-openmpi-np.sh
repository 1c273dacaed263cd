#!/bin/bash
#SBATCH --ntasks=3
#SBATCH --time=5
#= state: completed
#= out: world of 3
#= not: slot
mpirun -np $SLURM_NTASKS "$MUSTER_MPI_TASKS/ompi/rank-report" --json > report
python3 - <<PYTHON
import json
print("world of", json.load(open("report"))["ranks"])
PYTHON
