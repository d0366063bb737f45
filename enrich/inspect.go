package enrich

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wharfwatch/wharfwatch/flow"
)

// Bounds of what is kept of one container. An image's author chooses most of it.
const (
	maxText        = 256 // bytes of one string
	maxArguments   = 32
	maxLabels      = 32
	maxAttachments = 64
	maxPorts       = 256
	maxFacts       = 64 // of one list of the posture
)

// inspected is what we read of GET /containers/{id}/json and of what docker inspect prints.
// https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerInspect
// Config.Env is not among the fields: it holds secrets and ends with the raw answer.
type inspected struct {
	ID      string `json:"Id"`
	Name    string
	Created string
	Path    string
	Args    []string
	Image   string // its id
	State   struct {
		Running               bool
		StartedAt, FinishedAt string
	}
	Config struct {
		Image  string
		Labels map[string]string
	}
	HostConfig      hostConfig
	Mounts          []mountPoint
	NetworkSettings struct {
		endpoint // what engines before 1.9, and some inventories, have instead of Networks
		Ports    map[string][]portBinding
		Networks map[string]*endpoint
	}
}

type hostConfig struct {
	NetworkMode       string
	Privileged        bool
	CapAdd            []string
	PidMode           string
	IpcMode           string
	UTSMode           string
	UsernsMode        string
	CgroupnsMode      string
	SecurityOpt       []string
	MaskedPaths       *[]string
	Runtime           string
	Binds             []string
	DeviceCgroupRules []string
	Devices           []struct{ PathOnHost string }
	PortBindings      map[string][]portBinding
	Mounts            []struct {
		Type, Source, Target string
		ReadOnly             bool
		VolumeOptions        *struct {
			DriverConfig *struct{ Options map[string]string }
		}
	}
}

type mountPoint struct {
	Type, Source, Destination string
	RW                        bool
}

type endpoint struct {
	NetworkID           string
	IPAddress           string
	IPPrefixLen         int
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPv6Gateway         string
	MacAddress          string
}

// portBinding has the host's port as text: "" or "0" lets the engine choose.
type portBinding struct{ HostIP, HostPort string }

// habits are an engine's defaults that differ between installations; what equals them is no posture.
type habits struct {
	runtime    string // of containers that ask for none
	cgroupHost bool   // cgroup v1: containers share the host's cgroup namespace unless they ask not to
}

// container decodes one inspect answer. The error says what makes it unusable; strange values in single fields are left out.
func (e *inspected) container(engine, scope string, h habits) (*Container, error) {
	c := &Container{
		ID:          clean(strings.TrimSpace(e.ID), 128),
		Name:        clean(strings.TrimPrefix(e.Name, "/"), maxText),
		Engine:      engine,
		Workload:    WorkloadOf(e.Config.Labels, e.Name, e.Config.Image, scope),
		Image:       clean(e.Config.Image, maxText),
		ImageID:     clean(e.Image, 128),
		Running:     e.State.Running,
		NetworkMode: networkMode(e.HostConfig.NetworkMode),
		Posture:     e.HostConfig.posture(e.Mounts, h),
		Labels:      ownLabels(e.Config.Labels),
		Attachments: e.attachments(),
		Ports:       e.ports(),
	}
	if c.ID == "" {
		return nil, fmt.Errorf("no Id")
	}
	if e.Path != "" {
		c.Command = cleanAll(append([]string{e.Path}, e.Args...), maxArguments, maxText)
	}
	for _, t := range []struct {
		to          *int64
		field, text string
	}{
		{&c.Created, "Created", e.Created},
		{&c.Started, "State.StartedAt", e.State.StartedAt},
		{&c.Finished, "State.FinishedAt", e.State.FinishedAt},
	} {
		ns, err := engineTime(t.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.field, err)
		}
		*t.to = ns
	}
	if c.Finished <= c.Started && c.Started != 0 {
		c.Finished = 0 // the end of an earlier run
	}
	return c, nil
}

// engineTime reads RFC 3339; absent and the year 1 are 0, and so is the beginning of 1970, where captures with relative times start.
func engineTime(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("%q is no RFC 3339 time", clean(s, 64))
	}
	if t.Year() <= 1 {
		return 0, nil
	}
	if t.Year() < 1970 || t.Year() > 2200 { // what int64 nanoseconds hold, with a margin for arithmetic
		return 0, fmt.Errorf("%q is out of range", clean(s, 64))
	}
	return t.UnixNano(), nil
}

func networkMode(mode string) string {
	if mode == "default" || mode == "" {
		return "bridge"
	}
	return clean(mode, maxText)
}

func ownLabels(labels map[string]string) []Label {
	var out []Label
	for k, v := range labels {
		if strings.HasPrefix(k, "wharfwatch.") {
			out = append(out, Label{clean(k, maxText), clean(v, maxText)})
		}
	}
	slices.SortFunc(out, func(a, b Label) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Value, b.Value)) })
	return out[:min(len(out), maxLabels)]
}

func (e *inspected) attachments() []Attachment {
	var out []Attachment
	for name, at := range e.NetworkSettings.Networks {
		if at != nil {
			out = append(out, at.attachment(name))
		}
	}
	if len(out) == 0 {
		if at := e.NetworkSettings.attachment("bridge"); len(at.Addrs) > 0 {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.NetworkID, b.NetworkID))
	})
	return out[:min(len(out), maxAttachments)]
}

func (e *endpoint) attachment(name string) Attachment {
	at := Attachment{NetworkID: clean(e.NetworkID, 128), Network: clean(name, maxText), MAC: clean(strings.ToLower(e.MacAddress), 32)}
	at.add(e.IPAddress, e.IPPrefixLen)
	at.add(e.GlobalIPv6Address, e.GlobalIPv6PrefixLen)
	for _, gateway := range []string{e.Gateway, e.IPv6Gateway} {
		if a, err := flow.ParseAddr(gateway); err == nil && !a.Netip().IsUnspecified() {
			at.Gateways = append(at.Gateways, a)
		}
	}
	return at
}

// add takes an address with its prefix length, 0 unknown, from separate fields or from "addr/length".
func (at *Attachment) add(text string, bits int) {
	if addr, length, ok := strings.Cut(text, "/"); ok {
		text = addr
		bits, _ = strconv.Atoi(length)
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.IsUnspecified() || a.Zone() != "" {
		return
	}
	if bits < 0 || bits > a.BitLen() {
		bits = 0
	}
	at.Addrs = append(at.Addrs, flow.AddrOf(a))
	at.Bits = append(at.Bits, bits)
}

// ports prefers what the engine has bound to what was asked for: the latter may leave the choice of the port to the engine.
func (e *inspected) ports() []Port {
	bound := e.NetworkSettings.Ports
	if len(bound) == 0 {
		bound = e.HostConfig.PortBindings
	}
	var out []Port
	for spec, bindings := range bound {
		inner, name, _ := strings.Cut(spec, "/")
		number, err := strconv.ParseUint(inner, 10, 16)
		proto := map[string]uint8{"": 6, "tcp": 6, "udp": 17, "sctp": 132}[name]
		if err != nil || proto == 0 {
			continue
		}
		for _, b := range bindings {
			outer, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil || outer == 0 || len(out) == 4*maxPorts {
				continue
			}
			p := Port{Host: uint16(outer), Container: uint16(number), Proto: proto}
			if a, err := flow.ParseAddr(b.HostIP); err == nil && !a.Netip().IsUnspecified() {
				p.HostIP = a
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Host, b.Host), a.HostIP.Compare(b.HostIP), cmp.Compare(a.Container, b.Container))
	})
	out = slices.Compact(out) // 0.0.0.0 and :: are one
	return out[:min(len(out), maxPorts)]
}

// decodeInspect reads one JSON object.
func decodeInspect(raw []byte, engine, scope string, h habits) (*Container, error) {
	var e inspected
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	return e.container(engine, scope, h)
}
