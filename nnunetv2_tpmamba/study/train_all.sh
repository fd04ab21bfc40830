#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
# %count trainings; on Slurm: sbatch --array=0-%last THIS_FILE
# Run this script again after a stop: it skips finished trainings and continues the others.
# Slurm sends USR1 two minutes before the time is over. The training then saves and ends, and the job is queued again.
set -uo pipefail
: "${nnUNet_results:?export it as for nnUNetv2_train}"
nnUNet_extTrainer="${nnUNet_extTrainer:-$(nnUNetv2_tpmamba path)}"
export nnUNet_extTrainer
preempted=%preempted # the exit status of a training that a signal stopped after it had saved
trainings=(
    %trainings
)
folders=(
    %folders
)

signal=""
forward() { # to the running training, whose process is $!
    if [ "$1$signal" = USR1USR1 ]; then return; fi # scancel may send one signal again, which would end the saving
    signal=$1
    kill -s "$1" "${!:-}" 2>/dev/null
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM INT HUP

is_finished() {
    local folder="$nnUNet_results/${folders[$1]}"
    [ -f "$folder/checkpoint_final.pth" ] && [ -f "$folder/validation/summary.json" ]
}

train() {
    if [ -n "$signal" ]; then return "$preempted"; fi
    set -m # the training is a process group of its own, which a terminal's Ctrl-C does not reach
    eval "exec env ${trainings[$1]}" </dev/null &
    set +m
    local process=$! status
    while wait "$process"; status=$?; kill -0 "$process" 2>/dev/null; do :; done # a signal ends wait, not the training
    if [ -n "$signal" ]; then kill -s KILL -- "-$process" 2>/dev/null; fi # workers that stock nnU-Net leaves behind
    return "$status"
}

requeue() {
    local job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"
    job="${job:-$SLURM_JOB_ID}"
    echo "stopped; job $job is queued again"
    scontrol requeue "$job" || echo "job $job could not be queued again; submit this script again" >&2
}

chosen=("${!trainings[@]}")
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then chosen=("$SLURM_ARRAY_TASK_ID"); fi
failed=()
for i in "${chosen[@]}"; do
    if is_finished "$i"; then continue; fi
    train "$i"
    status=$?
    if [ -n "${SLURM_JOB_ID:-}" ] && [ "$signal" != TERM ] && { [ "$signal" = USR1 ] || [ "$status" = "$preempted" ]; }; then
        requeue
        exit "$preempted"
    elif [ -n "$signal" ]; then
        echo "stopped by a signal; run this script again to continue" >&2
        exit "$preempted"
    elif [ "$status" != 0 ]; then
        failed+=("status $status: ${trainings[$i]}")
    fi
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "${#failed[@]} of ${#chosen[@]} trainings failed:" >&2
    for each in "${failed[@]}"; do echo "  $each" >&2; done
    exit 1
fi
# then: %then
