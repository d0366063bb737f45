package enrich

import (
	"cmp"
	"net/url"
	"os"
	"strings"
)

// EngineConfig says how to reach one Docker engine and what its workloads are called.
type EngineConfig struct {
	// Name is the engine's name in events, workloads and metrics: at most 64 of letters, digits, '.', '_' and '-'.
	Name string `yaml:"name"`
	// Host is unix:///path or tcp://host:port; "" means $DOCKER_HOST, and without that unix:///var/run/docker.sock.
	Host string `yaml:"host"`
	// TLSDir holds ca.pem, cert.pem and key.pem for a tcp host; "" means $DOCKER_CERT_PATH when Host comes from the environment,
	// else plain text.
	TLSDir string `yaml:"tls_dir"`
	// Scope says whether compose and plain names carry the engine's name ("compose:shop/api@web1"): "always", "never", or "auto"
	// for "when more than one engine is configured", see ScopeEngines. Swarm and Kubernetes names never carry it.
	Scope string `yaml:"scope"`
	// Sources are the flow sources that see this engine's networks, as path.Match patterns over Batch.Source
	// ("netflow:192.0.2.1/*", "capture:docker0"); empty means every source. Two engines may both have a 172.17.0.2.
	Sources []string `yaml:"sources"`
	// Namespace is the network namespace of the engine's host as a path (/run/netns/lab, /proc/7/ns/net); "" is our own. Another
	// one needs CAP_SYS_ADMIN.
	Namespace string `yaml:"namespace"`
}

const defaultDockerHost = "unix:///var/run/docker.sock"

// DefaultEngine is the local engine.
func DefaultEngine() EngineConfig { return EngineConfig{Name: "local", Scope: "auto"} }

// ScopeEngines settles the scope "auto": engines that share an installation carry their names in workloads, a single one does not.
func ScopeEngines(engines []EngineConfig) []EngineConfig {
	out := make([]EngineConfig, len(engines))
	for i, e := range engines {
		if e.Scope == "auto" || e.Scope == "" {
			e.Scope = "never"
			if len(engines) > 1 {
				e.Scope = "always"
			}
		}
		out[i] = e
	}
	return out
}

// Validate reports every problem, with the key below the engine's own entry.
func (c EngineConfig) Validate(report func(path, message string)) {
	if c.Name == "" || len(c.Name) > 64 || strings.Trim(c.Name, nameBytes) != "" {
		report("name", "must be 1 to 64 letters, digits, '.', '_' or '-'")
	}
	if c.Host != "" {
		u, err := url.Parse(c.Host)
		switch {
		case err != nil:
			report("host", "is no URL: "+err.Error())
		case u.Scheme == "unix" && u.Path == "", u.Scheme == "tcp" && u.Port() == "":
			report("host", "must be unix:///path or tcp://host:port")
		case u.Scheme != "unix" && u.Scheme != "tcp":
			report("host", "must be unix:///path or tcp://host:port, not "+cmp.Or(u.Scheme, c.Host))
		}
	}
	if c.Host != "" && c.TLSDir != "" && !strings.HasPrefix(c.Host, "tcp://") {
		report("tls_dir", "is for a tcp:// host only")
	}
	switch c.Scope {
	case "", "auto", "always", "never":
	default:
		report("scope", "must be auto, always or never")
	}
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// Endpoint is the host that Run will use, the environment taken into account.
func (c EngineConfig) Endpoint() string {
	return cmp.Or(c.Host, os.Getenv("DOCKER_HOST"), defaultDockerHost)
}

// Local says that the engine runs on this machine, whose kernel can be asked.
func (c EngineConfig) Local() bool { return strings.HasPrefix(c.Endpoint(), "unix:") }

func (c EngineConfig) tlsDir() string {
	if c.TLSDir == "" && c.Host == "" && os.Getenv("DOCKER_HOST") != "" {
		return os.Getenv("DOCKER_CERT_PATH")
	}
	return c.TLSDir
}

// scope is what workload names carry, "" for nothing.
func (c EngineConfig) scope() string {
	if c.Scope == "always" {
		return c.Name
	}
	return ""
}
