#!/bin/bash
#SBATCH --time=5
#= state: cancelled
#= out: CANCELLED AT 20
#= not: never
scancel "$SLURM_JOB_ID"
sleep 60
echo never
