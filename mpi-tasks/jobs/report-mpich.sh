#!/bin/bash
#SBATCH --job-name=report-mpich
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:05:00
#SBATCH --output=report-mpich-%j.out

PATH="${MPICH_HOME:?should name the prefix of MPICH}/bin:$PATH"

mpiexec "${MUSTER_MPI_TASKS:?should name the folder that holds ompi/ and mpich/}/mpich/rank-report" --json
