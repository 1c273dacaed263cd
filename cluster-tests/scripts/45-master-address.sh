#!/bin/bash
# How programs for machine learning find their first node.
#SBATCH --nodes=2 --ntasks-per-node=1
#SBATCH --time=5
#= state: completed
#= out: master is this node, world of 2
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
export MASTER_ADDR=${nodes[0]} MASTER_PORT=29500 WORLD_SIZE=$SLURM_NTASKS
[ "$MASTER_ADDR" = "$(hostname -s)" ] && echo "master is this node, world of $WORLD_SIZE"
