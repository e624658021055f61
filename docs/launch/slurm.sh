#!/bin/bash
# Trains one policy on 4 nodes of 8 GPUs, one process for each GPU:  sbatch docs/launch/slurm.sh
# Submitted again, it goes on where it was stopped. RUN has to be on a file system that all nodes see.
#SBATCH --job-name=mjxppo
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

RUN=${RUN:-$PWD/runs/many-hosts}

# Every process finds its place by SLURM's variables. Each sees all GPUs of its node and takes the one of its number.
export MJXPPO_COORDINATOR=auto

if [ -f "$RUN/config.yaml" ]; then
  arguments=(--resume --run-dir "$RUN")
else
  arguments=(--config half_cheetah_gpu_throughput --ppo.num-envs 262144 --ppo.num-minibatches 64
    --total-env-steps 800000000 --run-dir "$RUN")
fi

# A process that is lost ends the others within a minute; --kill-on-bad-exit makes sure.
srun --kill-on-bad-exit=1 mjxppo train "${arguments[@]}"
