#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --hint=nomultithread
#SBATCH --time=0-00:05
#= state: completed
#= out: 2 ranks with 2 threads each
#= out: hint nomultithread
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
count=$(mpirun -x OMP_NUM_THREADS sh -c 'echo $OMP_NUM_THREADS' | grep -c '^2$')
echo "$count ranks with $OMP_NUM_THREADS threads each"
echo "hint $SLURM_HINT"
