#!/usr/bin/env bash
# %count trainings; on Slurm: sbatch --array=0-%last THIS_FILE
# Run this script again after a stop: it skips finished trainings and continues the others.
set -uo pipefail
: "${nnUNet_results:?export it as for nnUNetv2_train}"
nnUNet_extTrainer="${nnUNet_extTrainer:-$(nnUNetv2_tpmamba path)}"
export nnUNet_extTrainer
trainings=(
    %trainings
)
finished=(
    %finished
)
chosen=("${!trainings[@]}")
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then chosen=("$SLURM_ARRAY_TASK_ID"); fi
failed=0
for i in "${chosen[@]}"; do
    if [ -f "$nnUNet_results/${finished[$i]}" ]; then continue; fi
    eval "${trainings[$i]}" || failed=1
done
# then: %compare
exit $failed
