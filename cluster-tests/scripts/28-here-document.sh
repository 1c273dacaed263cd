#!/bin/bash
#SBATCH --time=5
#= state: completed
#= out: Submitted batch job
#= out: from a here-document with 2 tasks
sbatch --wait --output=inner.out <<SCRIPT
#!/bin/bash
#SBATCH -n 2 -t 5
echo "from a here-document with \$SLURM_NTASKS tasks"
SCRIPT
cat inner.out
