#!/bin/bash
#SBATCH --signal=B:USR1@58
#SBATCH --time=1:00
#= state: completed
#= out: told in time
trap 'echo "told in time"; exit 0' USR1
sleep 100 &
wait
