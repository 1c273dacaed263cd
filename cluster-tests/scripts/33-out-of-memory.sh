#!/bin/bash
#SBATCH --mem=60M
#SBATCH --time=5
#= state: out_of_memory
#= out: Detected 1 oom_kill event in StepId=
exec python3 -c 'x = bytearray(200 << 20); x[::4096] = b"1" * len(x[::4096]); print(len(x))'
