#!/bin/bash
#SBATCH --export=MPICH_HOME,LEVEL=3
#SBATCH --time=5
#= state: completed
#= out: level 3, tasks none, mpich there
echo "level $LEVEL, tasks ${MUSTER_MPI_TASKS:-none}, mpich ${MPICH_HOME:+there}"
