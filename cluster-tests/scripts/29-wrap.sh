#!/bin/bash
#SBATCH --time=5
#= state: completed
#= out: wrapped in wrap
#= out: ended with 3
sbatch -W -Q -t 5 -o wrap.out --wrap='echo "wrapped in $SLURM_JOB_NAME"'
cat wrap.out
sbatch -W -Q -t 5 -o /dev/null --wrap="exit 3"
echo "ended with $?"
