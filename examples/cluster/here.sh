#!/bin/sh
# Does the jobs of job_array.sh on this machine, those of an array at the same time, each on a GPU of its own:
#
#   SUBMIT="sh examples/cluster/here.sh" sh examples/cluster/job_array.sh RUN 8 OPTIONS...
#
# Like sbatch, it takes --array=FIRST-LAST and --wrap=COMMAND, and prints a job number.
set -eu
first=0 last=0
for word in "$@"; do
    case $word in
    --array=*) last=${word##*-} ;;
    --wrap=*) work=${word#--wrap=} ;;
    esac
done
jobs=
for number in $(seq $first $last); do
    SLURM_ARRAY_TASK_ID=$number CUDA_VISIBLE_DEVICES=$number sh -c "$work" >&2 &
    jobs="$jobs $!"
done
failed=0
for job in $jobs; do
    wait "$job" || failed=$?  # the others go on to their end, as in an array
done
[ "$failed" -eq 0 ] || exit "$failed"
echo 1
