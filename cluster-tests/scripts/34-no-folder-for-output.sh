#!/bin/bash
#SBATCH --output=missing/folder/out-%j.txt
#SBATCH --time=5
#= state: failed
#= reason: missing/folder
echo never
