#!/bin/bash
#SBATCH --chdir=below
#SBATCH --input=data.txt
#SBATCH --output=../out-%j.txt
#SBATCH --time=5
#= prepare: mkdir below && echo some data > below/data.txt
#= state: completed
#= out: read some data in below
#= out: submitted elsewhere
read -r line
echo "read $line in $(basename "$PWD")"
[ "$SLURM_SUBMIT_DIR" != "$PWD" ] && echo "submitted elsewhere"
