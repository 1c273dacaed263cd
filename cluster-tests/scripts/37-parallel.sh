#!/bin/bash
#SBATCH --cpus-per-task=4
#SBATCH --exclusive
#SBATCH --time=5
#= state: completed
#= out: 8 done
seq 8 | xargs -P "$SLURM_CPUS_PER_TASK" -I{} sh -c 'sleep 0.05; touch done.{}'
echo "$(ls done.* | wc -l) done"
