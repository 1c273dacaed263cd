#!/bin/bash
#SBATCH --job-name=hello
#SBATCH --time=00:05:00
#SBATCH --output=%x-%j.log
#= state: completed
#= out: hello from job hello on 1 node
#= out: BATCH
echo "hello from job $SLURM_JOB_NAME on $SLURM_NNODES node"
echo "$ENVIRONMENT"
