# shellcheck shell=bash disable=SC2154
# Whether tests on a cluster can run here. For scripts that have the names of cluster.sh, and
# $cluster.

# What is left out where it cannot run.
tests="the tests on a cluster"

# Ends the script: fails if the tests are required, else says what is left out and why.
leave_out() {
  if [ "${EBB_CLUSTER_TESTS:-}" = required ]; then
    echo "$tests cannot run: $1" >&2
    exit 1
  fi
  echo "left out: $tests - $1"
  exit 0
}

# What a cluster needs that is brought up on this machine.
need_machine() {
  [ "$(uname -s)" = Linux ] || leave_out "they need Linux"
  [ "$(id -u)" = 0 ] || leave_out "they need root: run it as root"
  unshare --net true 2>/dev/null || leave_out "this machine does not allow network namespaces"
  "$cluster/packages" || leave_out "what is named above is missing"
}

# What the first build of its programs needs.
need_go() {
  command -v go >/dev/null || "$cluster/build-tools" >/dev/null 2>&1 ||
    leave_out "Go 1.26 or newer is missing, which builds Kubernetes"
}
