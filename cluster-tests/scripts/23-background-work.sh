#!/bin/bash
#SBATCH --ntasks=3
#SBATCH --time=5
#= state: completed
#= out: sum 6
for i in 1 2 3; do
    (sleep 0.2; echo $i > part.$i) &
done
wait
echo "sum $(cat part.* | awk '{sum += $1} END {print sum}')"
