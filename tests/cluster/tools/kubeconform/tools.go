//go:build tools

// Package tools names the command that checks manifests against their schemas, so that go mod tidy keeps it.
package tools

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
