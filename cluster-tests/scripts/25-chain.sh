#!/bin/bash
# Submits its own successor, from inside the job.
#SBATCH --job-name=chain
#SBATCH --time=5
#= state: completed
#= out: first
#= file: second.out second, after the first
if [ "${1:-}" = second ]; then
    echo "second, after the first"
    exit
fi
sbatch --dependency=afterok:$SLURM_JOB_ID --output=second.out 25-chain.sh second
echo first
