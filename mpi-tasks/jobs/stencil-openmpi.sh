#!/bin/bash
#SBATCH --job-name=stencil-openmpi
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:05:00
#SBATCH --output=stencil-openmpi-%j.out

# MUSTER_MPI_TASKS names the folder with ompi/ and mpich/: scripts are spooled, so no path is relative to this one.
STENCIL="${MUSTER_MPI_TASKS:?should name the folder that holds ompi/ and mpich/}/ompi/stencil"

mpirun "$STENCIL" --nx 512 --ny 512 --steps 200
