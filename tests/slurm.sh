#!/usr/bin/env bash
# Runs a grid on a real Slurm of one node (Debian's slurm-wlm and munge), kills a task in the middle, lets Slurm start it again, and
# compares the joined table with that of one process. As root, on a machine without a Slurm of its own:
#
#   apt-get install slurm-wlm munge && cargo build --release && bash tests/slurm.sh target/release/engram
set -euo pipefail
engram=$(realpath "${1:?usage: slurm.sh ENGRAM}")
for program in munged slurmctld slurmd sbatch; do
  command -v "$program" >/dev/null || { echo "SKIPPED: no $program"; exit 0; }
done
work=$(mktemp -d)
host=$(hostname -s)
export SLURM_CONF="$work/slurm.conf"
started=()
end() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap end EXIT

# One node, one partition, no cgroups, no accounting.
dd if=/dev/urandom of="$work/munge.key" bs=1024 count=1 status=none
chmod 600 "$work/munge.key"
mkdir -p "$work"/{state,spool,munge}
chmod 755 "$work" "$work/munge"
munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge/socket" \
  --pid-file="$work/munge/pid" --seed-file="$work/munge/seed" --log-file="$work/munge/log" &
started+=($!)
cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld -D -f "$SLURM_CONF" & started+=($!)
slurmd -D -f "$SLURM_CONF" -N "$host" & started+=($!)
for _ in $(seq 60); do
  [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break
  sleep 0.5
done
sinfo

cd "$work"
grid="compare er finetune --seeds 2 --memory 40 --epochs 12 --limit-per-task 300 --max-tasks 3 --device cpu --threads 1"
"$engram" $grid --out grid --print-slurm 4 >job.sh
cat job.sh
job=$(sbatch --parsable --open-mode=append --output="$work/part-%a.log" job.sh)

# The first task is killed as soon as it has begun to learn, and started again.
for _ in $(seq 240); do
  [ -e grid/er-k40/seed-1/config.json ] && break
  sleep 0.25
done
sleep 1
[ ! -e grid/er-k40/seed-1/metrics.json ] || [ "$(grep -c '"complete": true' grid/er-k40/seed-1/metrics.json)" = 0 ]
scontrol requeue "${job}_1"
echo "part 1 was killed and queued again"
for _ in $(seq 600); do
  [ -z "$(squeue -h -j "$job" 2>/dev/null)" ] && break
  scontrol release "${job}_1" 2>/dev/null || true
  sleep 0.5
done
tail -n 3 part-*.log

"$engram" report grid >/dev/null
"$engram" $grid --out alone >/dev/null 2>&1
# All but the seconds.
numbers() { cut -d, -f1-13 "$1/comparison.csv" | sort; }
diff <(numbers grid) <(numbers alone) && echo "the table of four parts, one of them killed, is that of one process"
