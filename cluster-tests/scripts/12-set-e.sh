#!/bin/bash -e
#SBATCH --time=5
#= state: failed
#= exit: 1
#= out: before
#= not: after
echo before
false
echo after
