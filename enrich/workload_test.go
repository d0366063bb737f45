package enrich

import (
	"strings"
	"testing"

	"github.com/docker/docker/pkg/namesgenerator"
)

func TestWorkloadOf(t *testing.T) {
	f := func(labels, name, image, scope, want string) {
		t.Helper()
		m := map[string]string{}
		for pair := range strings.FieldsSeq(labels) {
			key, value, _ := strings.Cut(pair, "=")
			m[key] = value
		}
		if got := WorkloadOf(m, name, image, scope); got != want {
			t.Errorf("WorkloadOf(%q, %q, %q, %q) = %q, want %q", labels, name, image, scope, got, want)
		}
	}
	const compose = "com.docker.compose.project=shop com.docker.compose.service=worker"
	const pod = "io.kubernetes.pod.namespace=prod io.kubernetes.container.name=app io.kubernetes.pod.name="
	f("", "/redis", "redis:7", "", "name:redis/redis")
	f("", "redis", "redis:7", "web1", "name:redis/redis@web1")
	f("", "/focused_turing", "acme/worker:1.8", "", "image:acme/worker")
	f("", "/focused_turing3", "acme/worker@sha256:0123456789abcdef", "web1", "image:acme/worker@web1")
	f("", "/focused_turing", "sha256:0123456789abcdef", "", "image:sha256:0123456789abcdef")
	f("", "/api", "0123456789ab", "", "name:api")
	f("", "", "redis", "", "image:redis")
	f(compose, "/shop-worker-1", "acme/worker:1.8", "", "compose:shop/worker")
	f(compose, "/shop-worker-1", "acme/worker:1.8", "web1", "compose:shop/worker@web1")
	f("com.docker.compose.project=shop", "/x", "y", "", "name:x/y")
	f("com.docker.swarm.service.name=api", "/api.1.xyz", "acme/api", "web1", "swarm:api")
	f(compose+" com.docker.swarm.service.name=api", "", "", "", "compose:shop/worker")
	f(pod+"web-7d9c5b8f6d-x2x9z", "/k8s_app", "", "web1", "k8s:prod/web/app")
	f(pod+"fluentd-x2x9z", "", "", "", "k8s:prod/fluentd/app")
	f(pod+"db-0", "", "", "", "k8s:prod/db/app")
	f(pod+"backup-28391020-x2x9z", "", "", "", "k8s:prod/backup/app")
	f(pod+"lonely", "", "", "", "k8s:prod/lonely/app")
	f("wharfwatch.workload=mine "+compose, "/x", "y", "web1", "mine")
	f("wharfwatch.workload= "+compose, "/x", "y", "", "compose:shop/worker")
	f("", "/a\x1b[31mb\u202e", "i\nmage", "", "name:a[31mb/image")
}

func TestRepository(t *testing.T) {
	f := func(image, want string) {
		t.Helper()
		if got := Repository(image); got != want {
			t.Errorf("Repository(%q) = %q, want %q", image, got, want)
		}
	}
	f("redis", "redis")
	f("redis:7", "redis")
	f("library/redis:7", "redis")
	f("docker.io/library/redis:7", "redis")
	f("index.docker.io/acme/worker", "acme/worker")
	f("acme/worker:1.8", "acme/worker")
	f("registry:5000/acme/worker", "registry:5000/acme/worker")
	f("registry:5000/acme/worker:1.8", "registry:5000/acme/worker")
	f("registry:5000/acme/worker:1.8@sha256:"+strings.Repeat("a", 64), "registry:5000/acme/worker")
	f("[fd00::1]:5000/worker:1", "[fd00::1]:5000/worker")
	f("sha256:"+strings.Repeat("a", 64), "")
	f("0123456789ab", "")
	f("cafe", "cafe")
	f("", "")
}

// TestGeneratedName has the engine's own generator for an oracle.
func TestGeneratedName(t *testing.T) {
	for i := range 5000 {
		if name := namesgenerator.GetRandomName(i % 2); !generatedName(name) {
			t.Errorf("%q is the engine's", name)
		}
	}
	for _, name := range []string{"", "_", "web_api", "my_app", "focused-turing", "focused_", "focused_turing33", "focused_Turing", "focused_turing_2", "shop_worker_1", "turing"} {
		if generatedName(name) {
			t.Errorf("%q is not the engine's", name)
		}
	}
}
