# What Knative's suites need on the cluster: their images, and the objects that they expect. Sourced,
# after cluster/cluster.sh, by a script that has set `here`, `built` (the folder of build-tools) and `work`
# (a folder that goes with it).
# shellcheck shell=bash

# By digest, because Ebb does not ask registries what a tag stands for: the suite's own flag for
# naming images is a template, here one long "if".
images_template() {
  local program name reference template="" keyword=if
  for program in "$built"/images/*; do
    name=${program##*/}
    "$here/../../deploy/images/layout.py" "$work/$name" --env KO_DATA_PATH=/var/run/ko \
      "$program:/ko-app/$name" || return
    reference=$("$cluster/push" "$name:conformance" "$work/$name") || return
    template+="{{$keyword eq .Name \"$name\"}}$reference"
    keyword="else if"
  done
  echo "$template{{else}}$registry/{{.Name}}:conformance{{end}}"
}

# Makes the objects that the suite expects: its namespaces, and the maps and secrets that its pods
# mount.
fixtures() {
  local namespace
  for namespace in serving-tests serving-tests-alt tls rq-test; do
    kube create namespace "$namespace" --dry-run=client -o yaml | kube apply -f - >/dev/null
  done
  local map=(create configmap conformance-test-configmap --from-literal=testKey=testValue)
  local secret=(create secret generic conformance-test-secret --from-literal=testKey=testValue)
  for namespace in serving-tests serving-tests-alt; do
    kube -n "$namespace" "${map[@]}" --dry-run=client -o yaml | kube apply -f - >/dev/null
    kube -n "$namespace" "${secret[@]}" --dry-run=client -o yaml | kube apply -f - >/dev/null
  done
}
