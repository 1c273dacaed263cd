#!/bin/bash
#SBATCH --job-name=script --ntasks=2
#SBATCH --time=5
#= options: -J line --export=ALL,COLOUR=red
#= state: completed
#= out: line 2 red
echo "$SLURM_JOB_NAME $SLURM_NTASKS $COLOUR"
