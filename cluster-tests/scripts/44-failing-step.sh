#!/bin/bash
#SBATCH --ntasks=2
#SBATCH --time=5
#= state: failed
#= exit: 5
#= out: srun: error: node
srun sh -c 'exit $((SLURM_PROCID * 5))'
