#!/bin/bash
#
#SBATCH --job-name=remarks      # the name that squeue shows
#SBATCH --nodes=1               # one node ...
#SBATCH --ntasks-per-node=2     # ... with two ranks
#SBATCH --cpus-per-task=2       # and two cores for each
#SBATCH --time=0:10:00          # ten minutes
#SBATCH --mem-per-cpu=100M      # memory for each core
##SBATCH --nodes=400            # out of use
# SBATCH --nodes=500            # out of use as well
#= state: completed
#= out: tasks=2 cpus=2 per-node=2 mem=100 nodes=1
#= out: cores 4
echo "tasks=$SLURM_NTASKS cpus=$SLURM_CPUS_PER_TASK per-node=$SLURM_NTASKS_PER_NODE mem=$SLURM_MEM_PER_CPU nodes=$SLURM_JOB_NUM_NODES"
echo "cores $SLURM_CPUS_ON_NODE"
