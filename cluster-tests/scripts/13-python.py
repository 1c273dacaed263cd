#!/usr/bin/env python3
#SBATCH --job-name=snake
#SBATCH --time=5
#SBATCH -n 2
#= state: completed
#= out: python runs snake with 2 tasks
import os
print("python runs", os.environ["SLURM_JOB_NAME"], "with", int(os.environ["SLURM_NTASKS"]), "tasks")
