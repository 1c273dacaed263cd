#!/bin/bash
#SBATCH --time=5
#= state: completed
#= out: 2 lines, then 1
for i in 1 2; do sbatch -W -Q -t 5 --open-mode=append -o both.out --wrap="echo $i"; done
lines=$(wc -l < both.out)
sbatch -W -Q -t 5 --open-mode=truncate -o both.out --wrap="echo 3"
echo "$lines lines, then $(wc -l < both.out)"
