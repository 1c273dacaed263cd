#!/bin/bash
#SBATCH --time=5
#= stdin
#= state: completed
#= out: called sbatch
echo "called $SLURM_JOB_NAME"
