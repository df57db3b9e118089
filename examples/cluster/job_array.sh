#!/bin/sh
# One run on many devices of a SLURM cluster, without any communication between them.
#
#   sh examples/cluster/job_array.sh RUN N OPTIONS...
#
# RUN is a folder that every node sees, N the number of jobs that share a stage, OPTIONS those of guard-run, such as
#
#   sh examples/cluster/job_array.sh /scratch/imagenet-50 64 --method sre2l --dataset imagenet --data-root /data/imagenet --ipc 50
#
# `guard-run OPTIONS --plan --gpus N` says before what it will take. SUBMIT and ARRAY hold what your cluster needs, and
# may be set to other commands.
set -eu
run=$1 shards=$2
shift 2
submit=${SUBMIT:-"sbatch --parsable --gpus=1"}
last=$((shards - 1))

# Each job begins when the one before has ended well. The first trains the teacher and makes the folder.
job() { # NAME AFTER COMMAND: submits a job and prints its number
    name=$1 after=$2
    shift 2
    $submit --job-name="$name" ${after:+--dependency=afterok:"$after"} --wrap="$*"
}
array() { # STAGE AFTER: submits an array whose jobs share a stage
    $submit --job-name="$1" --dependency=afterok:"$2" --array=0-"$last" \
        --wrap="guard-run --resume $run --stage $1 --shard \$SLURM_ARRAY_TASK_ID/$shards"
}

teacher=$(job teacher "" guard-run "$@" --output "$run" --stop-after teacher)
distill=$(array distill "$teacher")
students=$(job students "$distill" guard-run --resume "$run" --stop-after students)
evaluate=$(array evaluate "$students")
# Joins the attacks, and makes what a job left out.
job report "$evaluate" guard-run --resume "$run"
