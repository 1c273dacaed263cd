#!/bin/bash
# A machine file as PBS makes it: each host as often as it has ranks.
#SBATCH -N2 --ntasks-per-node=2
#SBATCH --time=5
#= state: completed
#= out: 4 lines, 2 hosts
#= out: 4 ranks
per_node=${SLURM_TASKS_PER_NODE%%(*}
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
    for ((i = 0; i < per_node; i++)); do echo "$host"; done
done > nodefile
echo "$(wc -l < nodefile) lines, $(sort -u nodefile | wc -l) hosts"
echo "$(mpirun --hostfile nodefile -np 4 hostname | wc -l) ranks"
