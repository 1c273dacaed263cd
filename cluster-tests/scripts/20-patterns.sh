#!/bin/bash
#SBATCH -J pat
#SBATCH -o %x_%5j_%u_%N_%%_%A_%a.out
#SBATCH -t 5
#= state: completed
#= out: found
ls | grep -q "^pat_0*${SLURM_JOB_ID}_ann_$(hostname -s)_%_${SLURM_JOB_ID}_4294967294.out\$" && echo found
