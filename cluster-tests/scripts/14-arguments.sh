#!/bin/bash
#SBATCH -t 5
#= arguments: --input "two words" -n 9
#= state: completed
#= out: 4: --input|two words|-n|9
echo "$#: $1|$2|$3|$4"
