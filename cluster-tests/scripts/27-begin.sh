#!/bin/bash
#SBATCH --begin=now+1
#SBATCH --time=5
#= state: completed
#= out: begun
echo begun
