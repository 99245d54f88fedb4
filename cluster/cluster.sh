# shellcheck shell=bash disable=SC2034
# Shared by the scripts here: which cluster is used, names, places, and how the processes of a
# cluster that up brings up are started and recognised.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${EBB_CLUSTER:-/var/lib/ebb-cluster}
netns=ebb
# The address of the bridge in the namespace: the node's, the API server's and the registry's. Not
# a loopback address, which kubelet refuses as a node's.
address=10.88.0.1
# A link to the state folder of this machine's cluster. There is one cluster at most: the namespace
# and the cgroup have fixed names.
owner=/run/ebb-cluster
# All processes of the cluster are in this cgroup. So the rest of a cluster whose pids are no longer
# known, containers and their shims included, can still be told from other processes.
cgroup=ebb-cluster

PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Whether the user gives a cluster, to be used as it is. KUBECONFIG alone does not give one: many
# people have it set for other work, on clusters where nothing may be installed.
given() { [ -n "${KUBECONFIG:-}" ] && [ -n "${EBB_REGISTRY:-}" ]; }

# The kubeconfig of the cluster, the registry that its nodes pull images from, and the folder of the
# logs; kube_limit is how many seconds a kubectl may take.
if given; then
  kubeconfig=$(realpath -m "$KUBECONFIG") registry=$EBB_REGISTRY kube_limit=60
  logs=${EBB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ebb}/cluster-logs
else
  kubeconfig=$state/kubeconfig registry=$address:5000 kube_limit=15 logs=$state/logs
fi

check_given() {
  [[ -f $KUBECONFIG && -r $KUBECONFIG ]] ||
    fail "KUBECONFIG must name one file that can be read, not $KUBECONFIG"
  # As in the names of images: without a dot or a port a node takes the host for a folder of its
  # default registry.
  local host='([a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+(:[0-9]+)?|[a-zA-Z0-9-]+:[0-9]+|localhost)'
  [[ $EBB_REGISTRY =~ ^$host(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$ ]] || fail "EBB_REGISTRY must be" \
    "HOST[:PORT][/PATH], such as registry.example.com/team, not $EBB_REGISTRY"
  case ${EBB_REGISTRY_INSECURE:-} in
    "" | 1) ;;
    *) fail "EBB_REGISTRY_INSECURE must be 1 or unset, not $EBB_REGISTRY_INSECURE" ;;
  esac
}

check_place() {
  if given; then
    check_given
    return
  fi
  [ -z "${EBB_REGISTRY:-}" ] ||
    fail "EBB_REGISTRY gives a cluster together with KUBECONFIG: set both, or unset EBB_REGISTRY"
  # This path is put into templates of configurations, and it begins the paths of unix sockets,
  # which may have 107 bytes.
  case $state in
    /) fail "EBB_CLUSTER must not be /" ;;
    /*) ;;
    *) fail "EBB_CLUSTER must be an absolute path, not $state" ;;
  esac
  case $state in
    *[!a-zA-Z0-9/._-]* | */ | *//* | */../*) fail "EBB_CLUSTER must be a plain path, not $state" ;;
  esac
  [ ${#state} -le 50 ] || fail "EBB_CLUSTER must not be longer than 50 characters: $state"
  local other
  other=$(readlink "$owner" 2>/dev/null) || return 0
  [ "$other" = "$state" ] ||
    fail "the cluster of this machine has its state in $other: set EBB_CLUSTER=$other"
}

# Runs a command in the cluster's network. Not by `ip netns exec`, which gives each process mounts
# of its own: containerd must see what kubelet mounts. The environment is not passed on, because a
# proxy that is named there cannot be reached from inside.
in_netns() {
  nsenter --net="/run/netns/$netns" env -i PATH="$PATH" HOME="$state" "$@"
}

# Runs a command, after assignments if need be, where the cluster can be reached. For a given
# cluster the environment is passed on: the command may need a proxy, or an account with a cloud,
# from there.
inside() {
  if given; then env "$@"; else in_netns "$@"; fi
}

kube() {
  inside timeout "$kube_limit" kubectl --kubeconfig="$kubeconfig" --request-timeout=10s "$@"
}

# Fails unless there is a cluster, and puts kubectl and the named modules on the PATH:
# require_cluster [MODULE-OF-BUILD-TOOLS...]
require_cluster() {
  local modules=("$@") folders said
  check_place
  if given; then
    # A user who gives a cluster has the kubectl that fits it, if there is one.
    PATH=${KUBEBUILDER_ASSETS:+$KUBEBUILDER_ASSETS:}$PATH
    type -P kubectl >/dev/null || modules+=(kubectl)
  else
    alive kube-apiserver || fail "there is no cluster: run $scripts/up first"
    modules+=(kubernetes)
  fi
  if [ ${#modules[@]} -gt 0 ]; then
    folders=$("$scripts/build-tools" "${modules[@]}")
    PATH=$folders:$PATH
  fi
  mkdir -p "$logs"
  given || return 0
  # An object that every cluster has, and that no client sees without an account.
  said=$(kube get namespace kube-system -o name 2>&1) ||
    fail "kubectl does not reach the cluster: mend $KUBECONFIG, or unset EBB_REGISTRY to use a" \
      "cluster on this machine; kubectl says: $(tail -n 1 <<<"$said")"
}

# Every file system of cgroups: one with version 2, one for each controller with version 1.
cgroup_roots() {
  awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup" {print $2}' /proc/self/mounts | sort -u
}

cgroup_version() {
  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then echo 2; else echo 1; fi
}

# The cluster's cgroup in the hierarchy by which the cluster's processes are found. With version 1
# that is the one of the pids controller: every container is in it, because kubelet refuses to run
# without it.
tracking_cgroup() {
  local root=/sys/fs/cgroup
  if [ "$(cgroup_version)" = 1 ]; then
    root=$(awk '$3 == "cgroup" && $4 ~ /(^|,)pids(,|$)/ {print $2; exit}' /proc/self/mounts)
    [ -n "$root" ] || fail "no cgroup file system with the pids controller is mounted"
  fi
  echo "$root/$cgroup"
}

# The pids in the cluster's cgroup, or in a part of it, without processes that have ended but were
# not waited for: a shim whose containerd is dead does not wait for its own.
pids_in() {
  local pid
  [ -d "$1" ] || return 0
  # A folder below may vanish while find runs.
  for pid in $({ find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true; } | sort -un); do
    ! ended "$pid" && echo "$pid"
  done
  return 0
}

ended() {
  [ -e "/proc/$1/status" ] || return 0
  grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# The start of a process, in ticks since the machine's start: a pid and this time name one process
# only. The name of a process, which may hold anything, ends with the last parenthesis.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra stat <<<"${stat##*) }"
  echo "${stat[19]}"
}

# Starts a process of the cluster: start NAME COMMAND...
start() {
  local name=$1 tracked
  shift
  tracked=$(tracking_cgroup)/daemons
  (
    echo "$BASHPID" >"$tracked/cgroup.procs"
    cd /
    # The process is to have neither the lock of up nor the terminal's Ctrl-C.
    exec 9>&-
    exec setsid nsenter --net="/run/netns/$netns" env -i PATH="$PATH" HOME="$state" "$@"
  ) </dev/null >"$state/logs/$name.log" 2>&1 &
  local pid=$!
  echo "$pid $(start_time "$pid" || echo 0) $(cat /proc/sys/kernel/random/boot_id)" \
    >"$state/pids/$name"
}

# Prints the pid of a process that start has started, if that process still runs; else fails.
pid_of() {
  local pid begun boot
  read -r pid begun boot 2>/dev/null <"$state/pids/$1" || return 1
  [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
  [ "$(start_time "$pid")" = "$begun" ] || return 1
  ! ended "$pid" || return 1
  echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# The parts of the state folder that up writes and down removes. The logs stay, and so does the file
# that marks the folder as ours.
state_parts=(
  addresses cni config containerd etcd kubelet pause pids pki registries registry run
  kubeconfig controller-manager.kubeconfig scheduler.kubeconfig kube-proxy.kubeconfig
  coredns.kubeconfig kubelet.kubeconfig .cache .config .kube .local
)
