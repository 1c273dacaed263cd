#!/bin/bash
#SBATCH --time=0:03
#SBATCH -o limit.out -e limit.err
#= state: timed_out
#= out: started
#= err: CANCELLED AT 20
#= err: DUE TO TIME LIMIT ***
echo started
sleep 100
