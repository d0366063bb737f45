package baseline

import (
	_ "embed" // the lists are part of the binary: the room does no I/O
	"fmt"
	"strconv"
	"strings"

	"github.com/wharfwatch/wharfwatch/flow"
)

//go:embed lists/tunnel-tools.txt
var tunnelToolsText string

//go:embed lists/mining-pools.txt
var miningPoolsText string

// endpoints is a list of names and ports that belong to somebody, read from lists/*.txt. Look-ups allocate nothing.
type endpoints struct {
	domains map[string]string // domain to whom
	ports   map[portKey]string
}

type portKey struct {
	port  uint16
	proto uint8
}

// parseEndpoints reads lines of: kind value whom. # begins a comment.
func parseEndpoints(text string) (endpoints, error) {
	e := endpoints{domains: map[string]string{}, ports: map[portKey]string{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		if len(w) != 3 {
			return e, fmt.Errorf("line %d: a line is: kind value whom", n)
		}
		switch w[0] {
		case "domain":
			if w[1] != strings.ToLower(strings.Trim(w[1], ".")) {
				return e, fmt.Errorf("line %d: a domain is in lower case and without dots around it", n)
			}
			e.domains[w[1]] = w[2]
		case "port":
			number, proto, _ := strings.Cut(w[1], "/")
			port, err := strconv.ParseUint(number, 10, 16)
			if err != nil || proto != "tcp" && proto != "udp" {
				return e, fmt.Errorf("line %d: %q is no port: 7000/tcp", n, w[1])
			}
			k := portKey{uint16(port), flow.TCP}
			if proto == "udp" {
				k.proto = flow.UDP
			}
			e.ports[k] = w[2]
		default:
			return e, fmt.Errorf("line %d: unknown kind %q: domain or port", n, w[0])
		}
	}
	return e, nil
}

// whose finds a name, or the nearest domain above it that is listed.
func (e *endpoints) whose(name string) (whom, domain string) { return nearest(e.domains, name) }

// nearest looks a name up, then the domains above it.
func nearest[V any](domains map[string]V, name string) (value V, domain string) {
	for domain = name; domain != ""; {
		if v, ok := domains[domain]; ok {
			return v, domain
		}
		dot := strings.IndexByte(domain, '.')
		if dot < 0 {
			return value, ""
		}
		domain = domain[dot+1:]
	}
	return value, ""
}
