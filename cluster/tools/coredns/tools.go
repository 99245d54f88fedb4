//go:build tools

// Package tools names the DNS server of the test cluster, so that go mod tidy keeps it.
package tools

import _ "github.com/coredns/coredns"
