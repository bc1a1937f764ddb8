#!/usr/bin/env bash
# A real one-node Slurm on this machine, from Debian's packages, for the tests. As root; needs no systemd.
#
#   tests/cluster/start_slurm.sh         install what is missing, start what is not up, wait until a job can run
#   tests/cluster/start_slurm.sh stop    end what was started
#
# munge (authentication), MariaDB and slurmdbd (accounting: sacct, which submitit asks how a job ended), slurmctld and
# slurmd. Processes are tracked without cgroups, so that it works in a container. State and logs lie in $STATE.
set -euo pipefail

STATE=/var/lib/mmbench-test-slurm
CONF=/etc/slurm/slurm.conf
MARK="# written by mmbench's tests/cluster/start_slurm.sh"
SOCKET=$STATE/mysql/mysqld.sock
HOST=$(hostname -s)

fail() {
  echo "start_slurm: $1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || fail "must run as root: it installs packages and starts daemons"

up() { sinfo --noheader --format=%t 2>/dev/null | grep -qE '^(idle|mix|alloc)' && sacctmgr -n list cluster 2>/dev/null | grep -q mmbench; }

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "$what did not come up; see the logs in $STATE"
    sleep 0.3
  done
}

ended() { ! kill -0 "$1" 2>/dev/null; }

stop() {
  grep -qsF "$MARK" "$CONF" || fail "$CONF is not ours: nothing to stop"
  for name in slurmd slurmctld slurmdbd mariadbd munged; do # each writes its process id when it starts
    local file=$STATE/$name.pid pid
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ]; then
      kill "$pid"
      wait_for 20 "the end of $name" ended "$pid"
    fi
    rm -f "$file"
  done
  echo "Slurm is stopped."
}

install() {
  local name found=yes
  for name in slurmctld slurmd slurmdbd munged mariadbd; do command -v $name >/dev/null || found=no; done
  [ $found = no ] || return 0
  command -v apt-get >/dev/null || fail "Slurm is not installed, and this is no Debian: install slurm-wlm, slurmdbd, munge, mariadb-server"
  local log=/tmp/mmbench-apt.log
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
    slurm-wlm slurmdbd munge mariadb-server; } >"$log" 2>&1 || fail "could not install the packages; see $log"
}

configure() {
  if [ -s "$CONF" ] && ! grep -qF "$MARK" "$CONF"; then
    fail "$CONF belongs to another Slurm: this script would replace it; remove it if it is not needed"
  fi
  mkdir -p "$STATE"/{ctld,slurmd,mysql,munge} /etc/slurm
  chown -R munge:munge "$STATE/munge"
  chown -R mysql:mysql "$STATE/mysql"
  cat >"$CONF" <<CONF
$MARK
ClusterName=mmbench
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/slurmd
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
# no cgroups in a container
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
ReturnToService=2
SlurmdParameters=config_overrides
# what the tests look at
JobRequeue=1
KillWait=5
OverTimeLimit=0
AuthInfo=cred_expire=5 # a requeued job waits that long, two minutes by default
MinJobAge=300
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=test Nodes=$HOST Default=YES MaxTime=60 State=UP
CONF
  cat >/etc/slurm/slurmdbd.conf <<CONF
$MARK
DbdHost=localhost
SlurmUser=root
AuthType=auth/munge
PidFile=$STATE/slurmdbd.pid
LogFile=$STATE/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
CONF
  chmod 600 /etc/slurm/slurmdbd.conf
}

alive() { [ -s "$STATE/$1.pid" ] && [ "$(cat "/proc/$(cat "$STATE/$1.pid")/comm" 2>/dev/null)" = "$1" ]; }

start() {
  export MYSQL_UNIX_PORT=$SOCKET # where slurmdbd's client library looks for a local server
  if ! munge --no-input >/dev/null 2>&1; then
    mkdir -p /run/munge # the default socket's folder: Slurm's clients look nowhere else
    chown munge:munge /run/munge
    chmod 755 /run/munge
    [ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none; }
    chown munge:munge /etc/munge/munge.key
    chmod 400 /etc/munge/munge.key
    runuser -u munge -- munged --force --pid-file="$STATE/munge/munged.pid" \
      --log-file="$STATE/munge/munged.log" --seed-file="$STATE/munge/munged.seed"
    ln -sf munge/munged.pid "$STATE/munged.pid"
  fi
  wait_for 10 munged munge --no-input
  if ! alive mariadbd; then
    [ -d "$STATE/mysql/mysql" ] ||
      mariadb-install-db --user=mysql --datadir="$STATE/mysql" --skip-test-db >"$STATE/mariadb-install.log" 2>&1 ||
      fail "could not set up MariaDB; see $STATE/mariadb-install.log"
    setsid mariadbd --no-defaults --user=mysql --datadir="$STATE/mysql" --socket="$SOCKET" --skip-networking \
      --pid-file="$STATE/mysql/mariadbd.pid" --innodb-buffer-pool-size=64M </dev/null >"$STATE/mariadbd.log" 2>&1 &
    echo $! >"$STATE/mariadbd.pid"
  fi
  wait_for 30 MariaDB mariadb --no-defaults --socket="$SOCKET" --user=root -e 'select 1'
  alive slurmdbd || slurmdbd
  wait_for 30 slurmdbd sacctmgr -n list cluster
  alive slurmctld || slurmctld
  alive slurmd || slurmd
  wait_for 30 "the node" up
  echo "$(sinfo --version) is up: one node, two CPUs."
}

if [ "${1:-}" = stop ]; then
  stop
elif [ -n "${1:-}" ]; then
  fail "unknown argument '$1' (allowed: stop, or nothing)"
elif grep -qsF "$MARK" "$CONF" && up; then
  echo "Slurm is up already."
else
  install
  configure
  start
fi
