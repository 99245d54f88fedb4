//go:build tools

// Package tools names what Knative's end-to-end suites are built from, so that go mod tidy keeps it.
package tools

import (
	_ "knative.dev/serving/test/e2e"
)
