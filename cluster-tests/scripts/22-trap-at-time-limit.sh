#!/bin/bash
#SBATCH -t 0:03
#= state: timed_out
#= out: saving
trap 'echo saving; exit 0' TERM
sleep 100 &
wait
