# shellcheck shell=bash disable=SC2154
# The parts of the cluster: functions that start them and wait until they are ready. For up, which
# has the names that cluster.sh sets.

# show_log NAME MESSAGE: fails with the last lines of a log.
show_log() {
  echo "up: the last lines of $state/logs/$1.log:" >&2
  tail -n 12 "$state/logs/$1.log" 2>/dev/null | cut -c1-400 | sed 's/^/  /' >&2
  fail "$2"
}

# Waits until a condition holds: await PART CONDITION...; fails when the part ends before.
await() {
  local part=$1 deadline=$((SECONDS + ready_limit))
  shift
  until "$@" >/dev/null 2>&1; do
    alive "$part" || show_log "$part" "$part has ended; its log says why"
    [ "$SECONDS" -lt "$deadline" ] ||
      show_log "$part" "$part has not become ready in $ready_limit s; its log may say why"
    sleep 0.1
  done
}

# Whether an address in the namespace answers a GET with 200, without a client to install.
# The words in single quotes are for the inner bash.
# shellcheck disable=SC2016
answers() { # address port path
  in_netns timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"
    printf "GET %s HTTP/1.0\r\n\r\n" "$2" >&3
    read -r line <&3
    [[ $line == *" 200 "* ]]' "$@"
}

# shellcheck disable=SC2016
connects() { in_netns timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$@"; }

kube_quietly() {
  kube "$@" >>"$state/logs/kubectl.log" 2>&1 || show_log kubectl "kubectl $1 failed"
}

node_ready() {
  [ "$(kube get node node1 \
    -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

# Whether the cluster's first name resolves: writes the DNS query itself, for want of a client to
# rely on, and reads the header of the answer. By TCP, because bash may write a message in two
# pieces. In hexadecimal: the message's length, its header, the name, and the question for an
# address.
# shellcheck disable=SC2016
dns_ready() {
  answers 127.0.0.1 8181 /ready || return 1
  in_netns timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/53"
    name="\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00"
    printf "\x00\x36" >&3
    printf "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00$name\x00\x01\x00\x01" >&3
    read -ra said < <(head -c 10 <&3 | od -An -v -tu1)
    # No error, and at least one answer.
    ((said[5] % 16 == 0 && said[9] > 0))' "$address"
}
# Ready once the rules of the cluster's first Service are there.
kube_proxy_ready() { connects 10.96.0.1 443; }

make_network() {
  # br_netfilter is built into some kernels, and a module of others.
  [ -e /proc/sys/net/bridge ] || modprobe br_netfilter 2>/dev/null || true
  ip netns add "$netns"
  in_netns ip link set lo up
  # With a MAC address of its own: otherwise a bridge takes the lowest address of its ports, and
  # changes it as pods come and go, which breaks connections until the neighbours have noticed.
  in_netns ip link add cni0 address 02:eb:b0:00:00:01 type bridge
  in_netns ip address add "$address/16" dev cni0
  in_netns ip link set cni0 up
  # A connection to a ClusterIP needs a route before the rules of kube-proxy see it.
  in_netns ip route add 10.96.0.0/16 dev cni0
  # There is no other network: refuse at once, rather than let a client wait.
  in_netns ip route add unreachable default
  in_netns bash -c 'cd /proc/sys/net
    echo 1 >ipv4/ip_forward
    echo 1 >ipv6/conf/all/disable_ipv6 2>/dev/null || true
    # Without it two pods on the bridge answer one another past the rules of kube-proxy.
    echo 1 >bridge/bridge-nf-call-iptables' ||
    fail "the kernel lacks br_netfilter: load it with modprobe br_netfilter"
}

# Kubelet wants its root cgroup to be there, with every controller it knows.
make_cgroups() {
  local root controller
  if [ "$(cgroup_version)" = 2 ]; then
    root=/sys/fs/cgroup
    mkdir -p "$root/$cgroup" 2>/dev/null || fail "cannot write to $root: it needs to be writable"
    for controller in cpu cpuset memory pids hugetlb; do
      grep -qw "$controller" "$root/cgroup.controllers" || continue
      { echo "+$controller" >"$root/cgroup.subtree_control"; } 2>/dev/null ||
        fail "cannot enable the cgroup controller $controller in $root: no process may be in the" \
          "cgroup of a container itself; move them to one below it first"
    done
  else
    for root in $(cgroup_roots); do
      # The file system of version 2 beside them has no controller that kubelet asks for.
      [ ! -e "$root/cgroup.controllers" ] || continue
      mkdir -p "$root/$cgroup" || fail "cannot write to $root: it needs to be writable"
    done
  fi
  mkdir -p "$(tracking_cgroup)/daemons"
}

# Overlayfs cannot lie on overlayfs, which is what a container's own files often lie on.
overlay_works_in() {
  local folder=$1/overlay works=1
  mkdir -p "$folder"/{lower,upper,work,merged}
  if mount -t overlay overlay "$folder/merged" \
    -o "lowerdir=$folder/lower,upperdir=$folder/upper,workdir=$folder/work" 2>/dev/null; then
    umount "$folder/merged"
    works=0
  fi
  rm -rf --one-file-system "$folder"
  return $works
}

# Chooses where images are unpacked: the state folder itself, else memory, which an overlay can
# always lie on. A kernel without overlayfs copies every image for every container: slow and large,
# but right.
choose_snapshotter() {
  if overlay_works_in "$state/containerd"; then
    snapshotter=overlayfs
    return
  fi
  if mount -t tmpfs -o mode=711 ebb-cluster "$state/containerd"; then
    if overlay_works_in "$state/containerd"; then
      snapshotter=overlayfs
      echo "  images are kept in memory: overlayfs does not work in $state"
      return
    fi
    umount "$state/containerd"
  fi
  snapshotter=native
  echo "  images are copied for every container: this kernel has no overlayfs"
}

write_configuration() { # template target
  sed -e "s|@STATE@|$state|g" -e "s|@ADDRESS@|$address|g" -e "s|@CGROUP@|$cgroup|g" \
    -e "s|@SNAPSHOTTER@|$snapshotter|g" "$here/config/$1" >"$2"
}

write_configurations() {
  choose_snapshotter
  local name
  for name in Corefile audit.yaml containerd.toml kube-proxy.yaml kubelet.yaml registry.yaml; do
    write_configuration "$name" "$state/config/$name"
  done
  write_configuration bridge.conflist "$state/cni/10-ebb.conflist"
  mkdir "$state/registries/$address:5000"
  write_configuration hosts.toml "$state/registries/$address:5000/hosts.toml"
}

start_storage() {
  # A cluster for tests does not outlive the machine: no write waits for the disk.
  start etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  start registry docker-registry serve "$state/config/registry.yaml"
  start containerd containerd -c "$state/config/containerd.toml"
  await etcd answers 127.0.0.1 2379 /health
  await registry answers "$address" 5000 /v2/
  await containerd in_netns timeout 2 ctr -a "$state/run/containerd.sock" version
}

start_apiserver() {
  local pki=$state/pki
  # kubelet is asked by its address: the node's name is in no DNS.
  start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$address" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --client-ca-file="$pki/ca.crt" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true \
    --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/apiserver.crt" \
    --kubelet-client-key="$pki/apiserver.key" \
    --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
    --audit-policy-file="$state/config/audit.yaml" --audit-log-path="$state/logs/audit.log" \
    --audit-log-mode=batch --audit-log-maxsize=50 --audit-log-maxbackup=2
  await kube-apiserver kube get --raw /readyz
}

# Every pod has a process that holds its namespaces open. Its image is built here, not pulled.
push_pause() {
  mkdir "$state/pause"
  cc -static -Os -s -o "$state/pause/pause" "$here/pause.c" 2>"$state/logs/pause.log" ||
    show_log pause "cc could not build pause.c: install gcc and libc6-dev"
  "$here/../deploy/images/layout.py" "$state/pause/layout" "$state/pause/pause:/pause"
  "$here/push" pause:1 "$state/pause/layout" >"$state/logs/pause.log" 2>&1 ||
    show_log pause "could not push the pause image"
}

start_rest() {
  local kubeconfig=$state/controller-manager.kubeconfig
  start kube-controller-manager kube-controller-manager --bind-address=127.0.0.1 \
    --kubeconfig="$kubeconfig" --authentication-kubeconfig="$kubeconfig" \
    --authorization-kubeconfig="$kubeconfig" --leader-elect=false \
    --use-service-account-credentials --root-ca-file="$state/pki/ca.crt" \
    --service-account-private-key-file="$state/pki/sa.key"
  kubeconfig=$state/scheduler.kubeconfig
  start kube-scheduler kube-scheduler --bind-address=127.0.0.1 --kubeconfig="$kubeconfig" \
    --authentication-kubeconfig="$kubeconfig" --authorization-kubeconfig="$kubeconfig" \
    --leader-elect=false
  start kubelet kubelet --config="$state/config/kubelet.yaml" --root-dir="$state/kubelet" \
    --kubeconfig="$state/kubelet.kubeconfig" --hostname-override=node1 --node-ip="$address"
  start kube-proxy kube-proxy --config="$state/config/kube-proxy.yaml"
  start coredns coredns -conf "$state/config/Corefile"
}

await_rest() {
  await kubelet node_ready
  await kube-proxy kube_proxy_ready
  await coredns dns_ready
  # No pod can be made in a namespace before the namespace has its account.
  await kube-controller-manager kube get serviceaccount default
}
