#!/usr/bin/env bash
# Trains pets, grocery and ISBI on one GPU with the same code as everywhere, Ray included, in fp32 and bf16, and prints a table:
# images/s, how busy the GPU was, its memory, waiting for data, the best result and the minutes to it.
#
#   SEGMENTATION_DATA=/path/to/data benchmarks/gpu.sh            # in the project's folder
#   SEGMENTATION_DATA=/path/to/data benchmarks/gpu.sh --epochs 5 # options of pipelines.train, after those below
#
# A second call with the same MASKWORKS_HOME goes on with what was cut off.
set -euo pipefail
: "${SEGMENTATION_DATA:?name the folder that holds oxford_pets, grocery24 and isbi_em}"
export MASKWORKS_HOME=${MASKWORKS_HOME:-$PWD/gpu-benchmark}
mkdir -p "$MASKWORKS_HOME"
table=$MASKWORKS_HOME/table.txt
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader | tee "$table"

row() {
    name=$1
    shift
    grep -q "^$name " "$table" || python -m benchmarks.gpu "$name" --use-gpu "$@" | tee /dev/stderr | tail -n 2 >>"$table"
}

for precision in bf16 fp32; do
    row "pets-$precision" --data "oxford_pets:$SEGMENTATION_DATA/oxford_pets" --input-size 256 256 --encoder resnet34 --epochs 60 --precision $precision "$@"
    row "grocery-$precision" --data "coco:$SEGMENTATION_DATA/grocery24" --input-size 320 320 --encoder resnet34 --instances --epochs 60 --precision $precision "$@"
    row "isbi-$precision" --data "masks:$SEGMENTATION_DATA/isbi_em" --input-size 512 512 --network unet2015 --global-batch-size 4 --border-weight 10 --epochs 200 --precision $precision "$@"
done
row pets-bf16-compiled --data "oxford_pets:$SEGMENTATION_DATA/oxford_pets" --input-size 256 256 --encoder resnet34 --epochs 60 --precision bf16 --compile "$@"
awk '!seen[$0]++' "$table"
