#!/bin/bash
#SBATCH --time=5
#= state: completed
#= out: worked in a scratch folder
#= file: cleaned yes
scratch=$(mktemp -d "${TMPDIR:-/tmp}/job.$SLURM_JOB_ID.XXXX")
trap 'rm -rf "$scratch"; echo yes > "$SLURM_SUBMIT_DIR/cleaned"' EXIT
cd "$scratch" && echo "worked in a scratch folder"
