//go:build tools

// Package tools names what Knative's conformance suite is built from, so that go mod tidy keeps it.
//
// test/conformance/api/v1 holds nothing but test files, which tidy does not look into when they
// belong to another module: what they import stands here in their place.
package tools

import (
	_ "github.com/davecgh/go-spew/spew"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/go-cmp/cmp/cmpopts"
	_ "golang.org/x/sync/errgroup"
	_ "k8s.io/api/core/v1"
	_ "k8s.io/apimachinery/pkg/api/resource"
	_ "k8s.io/apimachinery/pkg/util/intstr"
	_ "k8s.io/apimachinery/pkg/util/validation"
	_ "k8s.io/apimachinery/pkg/util/wait"
	_ "knative.dev/pkg/kmeta"
	_ "knative.dev/pkg/ptr"
	_ "knative.dev/pkg/test/spoof"
	_ "knative.dev/serving/pkg/reconciler/revision/resources/names"
	_ "knative.dev/serving/pkg/reconciler/service/resources/names"
	_ "knative.dev/serving/pkg/testing/v1"
	_ "knative.dev/serving/test"
	_ "knative.dev/serving/test/conformance/api/shared"
	_ "knative.dev/serving/test/conformance/runtime"
	_ "knative.dev/serving/test/types"
	_ "knative.dev/serving/test/v1"

	_ "knative.dev/serving/test/test_images/autoscale"
	_ "knative.dev/serving/test/test_images/configmimic"
	_ "knative.dev/serving/test/test_images/failing"
	_ "knative.dev/serving/test/test_images/grpc-ping"
	_ "knative.dev/serving/test/test_images/hellohttp2"
	_ "knative.dev/serving/test/test_images/hellovolume"
	_ "knative.dev/serving/test/test_images/helloworld"
	_ "knative.dev/serving/test/test_images/httpproxy"
	_ "knative.dev/serving/test/test_images/multicontainer/servingcontainer"
	_ "knative.dev/serving/test/test_images/multicontainer/sidecarcontainer"
	_ "knative.dev/serving/test/test_images/pizzaplanetv1"
	_ "knative.dev/serving/test/test_images/pizzaplanetv2"
	_ "knative.dev/serving/test/test_images/readiness"
	_ "knative.dev/serving/test/test_images/runtime"
	_ "knative.dev/serving/test/test_images/singlethreaded"
	_ "knative.dev/serving/test/test_images/slowstart"
	_ "knative.dev/serving/test/test_images/timeout"
	_ "knative.dev/serving/test/test_images/volumes"
	_ "knative.dev/serving/test/test_images/wsserver"
)
