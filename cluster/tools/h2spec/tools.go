//go:build tools

// Package tools names the command that tests HTTP/2 servers, so that go mod tidy keeps it.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
