#!/usr/bin/perl -w
#SBATCH --job-name pearl
#SBATCH --time 5
#= state: completed
#= out: pearl 1
use strict;
print "$ENV{SLURM_JOB_NAME} $ENV{SLURM_JOB_NUM_NODES}\n";
