#!/bin/bash
#SBATCH --requeue --open-mode=append
#SBATCH --time=5
#= state: completed
#= out: first start
#= out: restarted 1 time
if [ -z "${SLURM_RESTART_COUNT:-}" ]; then
    echo "first start"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60
fi
echo "restarted $SLURM_RESTART_COUNT time"
