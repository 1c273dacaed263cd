#!/bin/bash
#SBATCH --job-name=report-openmpi
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:05:00
#SBATCH --output=report-openmpi-%j.out

mpirun "${MUSTER_MPI_TASKS:?should name the folder that holds ompi/ and mpich/}/ompi/rank-report" --json
