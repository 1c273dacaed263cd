#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=2
#SBATCH --time=5
#= state: completed
#= out: 4 ranks on 2 nodes
#= out: 0: 0 of 4
#= out: 3: 3 of 4
hosts=$(srun hostname -s)
echo "$(wc -l <<<"$hosts") ranks on $(sort -u <<<"$hosts" | wc -l) nodes"
srun --label sh -c 'echo "$SLURM_PROCID of $SLURM_NTASKS"'
