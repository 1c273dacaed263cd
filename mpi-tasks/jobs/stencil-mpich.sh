#!/bin/bash
#SBATCH --job-name=stencil-mpich
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:05:00
#SBATCH --output=stencil-mpich-%j.out

# MUSTER_MPI_TASKS names the folder with ompi/ and mpich/: scripts are spooled, so no path is relative to this one.
STENCIL="${MUSTER_MPI_TASKS:?should name the folder that holds ompi/ and mpich/}/mpich/stencil"
# The programs need the mpiexec of the MPICH that they were built with.
PATH="${MPICH_HOME:?should name the prefix of MPICH}/bin:$PATH"

mpiexec "$STENCIL" --nx 512 --ny 512 --steps 200
