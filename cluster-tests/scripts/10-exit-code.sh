#!/bin/sh
#SBATCH -t 5
#= state: failed
#= exit: 7
exit 7
