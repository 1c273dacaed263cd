#!/bin/bash
#SBATCH --time=5
#= state: completed
#= out: cleaning up after a failure
#= file: either.out one of them
bad=$(sbatch --parsable -t 5 -o /dev/null --wrap=false)
sbatch -Q -W -t 5 -d afternotok:$bad -o after.out --wrap="echo cleaning up after a failure"
cat after.out
sbatch -Q -t 5 -d "afterok:$bad?afterany:$bad" -o either.out --wrap="echo one of them"
