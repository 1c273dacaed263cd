#!/bin/bash
#SBATCH --output=result-%j.out
#SBATCH --error=result-%j.err
#SBATCH --time=5
#= state: completed
#= out: to the output
#= err: to the error
echo to the output
echo to the error >&2
