#!/bin/bash
#SBATCH --ntasks=3
#SBATCH --time=5
#= state: completed
#= out: all three
for i in 1 2 3; do srun --exact -n1 sh -c "echo $i > part.$i" & done
wait
[ "$(cat part.* | tr -d '\n')" = 123 ] && echo "all three"
