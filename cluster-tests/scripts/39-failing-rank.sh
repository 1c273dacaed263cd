#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1
#SBATCH --time=5
#= state: failed
#= exit: 3
mpirun sh -c 'exit 3'
status=$?
exit $status
