#!/bin/sh
# Measures engram on a machine with a GPU in about four minutes: adapters, every op against the CPU, matrix products, steps of all
# models, time and bytes of a step's kernels, a short iCaRL run, what DFD and VDFD add to a step at ten tasks, and PyTorch's steps if
# python3 has torch with CUDA. A command that fails or takes too long is named at the end; the others still run.
#
#     benches/hardware.sh [--quick] [--device WHICH] [PROGRAM [FOLDER]]
#
# PROGRAM is target/release/engram, FOLDER hardware-figures (it gets NAME.txt, NAME.json, NAME.err of each command, and summary.txt).
# --quick takes tiny sizes and leaves out the tiles, to try the script on a software adapter.
set -u

quick=
device=gpu
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --device) device=$2 && shift ;;
    -*) echo "usage: $0 [--quick] [--device WHICH] [PROGRAM [FOLDER]]" >&2 && exit 2 ;;
    *) break ;;
    esac
    shift
done
program=${1:-target/release/engram}
out=${2:-hardware-figures}
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$program" ] || { echo "$program is no program: cargo build --release, or name it" >&2 && exit 2; }
mkdir -p "$out" || exit 2
program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program")
out=$(cd "$out" && pwd)
# Nothing of an earlier run is taken for this one's. Kernels are compiled from scratch, once.
rm -rf "$out"/*.txt "$out"/*.json "$out"/*.err "$out/icarl" "$out"/ten-tasks-* "$out/cache"
export ENGRAM_CACHE_DIR="$out/cache"
summary=$out/summary.txt
failed=

# step LIMIT NAME COMMAND...: stdout goes into a file of that name (its ending says of which kind) and, as text, to the terminal.
step() {
    limit=$1 name=$2
    shift 2
    began=$(date +%s)
    timeout -k 5 "$limit" "$@" >"$out/$name" 2>"$out/${name%.*}.err"
    code=$?
    {
        echo "== $name: $* ($(($(date +%s) - began)) s)"
        case $name in *.txt) cat "$out/$name" ;; esac
        if [ $code -ne 0 ]; then
            [ $code -eq 124 ] && echo "stopped after $limit s" || echo "failed with $code"
            tail -n 5 "$out/${name%.*}.err"
        fi
        echo
    } | tee -a "$summary"
    [ $code -eq 0 ] || failed="$failed $name"
}

# figures LIMIT NAME ARGUMENTS...: a bench of engram, as text and as JSON.
figures() {
    limit=$1 name=$2
    shift 2
    step "$limit" "$name.txt" "$program" bench "$@" --device "$device" --json-file "$out/$name.json"
}

if [ -n "$quick" ]; then
    batch=2 width=0.1 repeat=1 sizes="64" op=relu run="--limit-per-task 20 --epochs 1 --memory 20 --model mlp"
    tasks="--limit-per-task 20 --model mlp"
    pytorch="--batch-size 2 --repeat 1 --sizes 64"
else
    batch=128 width=1 repeat=20 sizes="512 1024 2048 4096" op= run="--limit-per-task 2000 --epochs 2 --memory 200 --model resnet32"
    tasks=
    pytorch="--batch-size 128 --repeat 20 --sizes 512 1024 2048 4096"
fi
all_began=$(date +%s)
"$program" --version | tee "$summary"
step 20 devices.txt "$program" devices
# The first start compiles every kernel, the second finds them in the cache.
for start in cold warm; do
    figures 30 start-$start step --model resnet32 --width $width --batch-size $batch --repeat 1
done
step 90 check.txt "$program" check $op --device "$device"
figures 60 steps step --model all --width $width --batch-size $batch --repeat $repeat
for size in $sizes; do
    figures 20 "matmul-$size" op matmul "$size" --repeat $repeat
done
figures 20 record record --repeat $repeat
# A software adapter compiles its hundreds of kernels for minutes.
if [ -z "$quick" ]; then
    step 60 tiles.txt "$program" bench tiles --device "$device"
fi
for model in resnet32 resnet18; do
    figures 30 "trace-$model" step --model $model --width $width --batch-size $batch --repeat $repeat --trace
done
step 60 icarl.txt "$program" icarl --dataset glyphs $run --device "$device" --out "$out/icarl" --force
# Seconds of training of each of ten tasks: the last one holds nine.
for method in finetune dfd vdfd; do
    step 60 ten-tasks-$method.txt "$program" $method --preset vdfd-cifar100-10-short --dataset shapes --classes-per-task 2 \
        --max-tasks 10 $tasks --device "$device" --out "$out/ten-tasks-$method" --force
    grep seconds_training "$out/ten-tasks-$method/timing.json" | tee -a "$summary"
done
if python3 -c 'import torch; assert torch.cuda.is_available()' >/dev/null 2>&1; then
    step 90 pytorch.json python3 "$here/pytorch/step.py" all --device cuda --modes eager graph --tf32 off on $pytorch --json
elif [ -n "$quick" ] && python3 -c 'import torch' >/dev/null 2>&1; then
    step 90 pytorch.json python3 "$here/pytorch/step.py" all --device cpu $pytorch --json
fi
{
    echo "all in $(($(date +%s) - all_began)) s; figures in $out"
    [ -z "$failed" ] || echo "FAILED:$failed"
} | tee -a "$summary"
[ -z "$failed" ]
