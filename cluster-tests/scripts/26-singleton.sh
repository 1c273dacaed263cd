#!/bin/bash
#SBATCH --job-name=only
#SBATCH --dependency=singleton
#SBATCH --time=5
#= state: completed
#= out: alone
#= file: other.out alone
[ "${1:-}" ] || sbatch -o other.out 26-singleton.sh other
mkdir running && echo alone
sleep 0.2
rmdir running
