#!/bin/bash -l
#SBATCH -J ompi
#SBATCH -N 2
#SBATCH --ntasks-per-node=2
#SBATCH -t 5
#= state: completed
#= out: ranks 4 on 2 nodes
hosts=$(mpirun hostname)
echo "ranks $(wc -l <<<"$hosts") on $(sort -u <<<"$hosts" | wc -l) nodes"
