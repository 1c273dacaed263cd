#!/bin/bash
#SBATCH --export=NONE
#SBATCH --time=5
#= state: completed
#= out: none of it
#= out: home ann
echo "${MUSTER_MPI_TASKS:-none of it}"
echo "home $(basename "$HOME")"
