#!/bin/bash
#SBATCH --comment="a run of the group" --nice=10 --wckey=key --requeue
#SBATCH --mail-type=END,FAIL --mail-user=ann@example.org
#SBATCH --open-mode=append --kill-on-invalid-dep=yes --wait-all-nodes=1
#SBATCH -m block:cyclic --hint=compute_bound --ntasks-per-core=1 --profile=none
#SBATCH -t 5
#= state: completed
#= out: block:cyclic a compute_bound
echo "$SLURM_DISTRIBUTION $SLURM_OPEN_MODE $SLURM_HINT"
