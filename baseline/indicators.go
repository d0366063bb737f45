package baseline

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/wharfwatch/wharfwatch/flow"
)

// maxIndicators bounds what is held of all lists, some 150 bytes each.
const maxIndicators = 2_000_000

// Indicator is one entry of a list of what is known to be bad.
type Indicator struct {
	Kind  string // ip, network, domain, sni, ja4
	Value string
	List  string // the list's name
	Text  string // what the list says of it
}

// Indicators are entries of lists, indexed. They do not change once an Engine has them. The zero value is empty.
type Indicators struct {
	all      []Indicator
	addrs    map[flow.Addr]int32
	networks map[netip.Prefix]int32
	bits     [2][129]bool // lengths of networks, IPv4 and IPv6
	domains  map[string]int32
	snis     map[string]int32
	ja4s     map[string]int32
}

// Len is the number of entries.
func (x *Indicators) Len() int { return len(x.all) }

// ParseLine takes one line of a list: a value, and behind a space, comma, semicolon or tab what is to be said of it. The value is an
// address, a network, a domain (which stands for all below it) or a JA4 fingerprint; `sni:name` is a server name and not what is below it;
// other kinds may be written before it as well (`ip:`, `domain:`, `ja4:`). Lines of hosts files (0.0.0.0 name) and dots in brackets are understood. An
// empty line or one that begins with # says nothing. An error says why a line cannot be used; what is too wide is one.
func (x *Indicators) ParseLine(list, line string) error {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil
	}
	value, text := cutField(line)
	if value == "0.0.0.0" || value == "127.0.0.1" || value == "::" {
		value, text = cutField(text) // hosts files name where a name shall lead
		if value == "" {
			return errors.New("an address that is nobody's")
		}
	}
	kind, rest, ok := strings.Cut(value, ":")
	switch {
	case ok && (kind == "ip" || kind == "network" || kind == "domain" || kind == "sni" || kind == "ja4"):
		value = rest
	default:
		kind = ""
	}
	return x.add(Indicator{Kind: kind, Value: value, List: list, Text: text})
}

// cutField takes the first field of a line.
func cutField(line string) (field, rest string) {
	line = strings.TrimSpace(line)
	i := strings.IndexAny(line, " \t,;")
	if i < 0 {
		return strings.Trim(line, `"`), ""
	}
	rest = strings.Trim(line[i:], " \t,;#\"")
	return strings.Trim(line[:i], `"`), strings.ToValidUTF8(rest[:min(len(rest), 200)], "")
}

// add recognises a value and indexes it. The first list that names it keeps it.
func (x *Indicators) add(n Indicator) error {
	if len(x.all) >= maxIndicators {
		return fmt.Errorf("more than %d indicators", maxIndicators)
	}
	if x.addrs == nil {
		x.addrs, x.networks, x.domains = map[flow.Addr]int32{}, map[netip.Prefix]int32{}, map[string]int32{}
		x.snis, x.ja4s = map[string]int32{}, map[string]int32{}
	}
	bare := strings.NewReplacer("[.]", ".", "(.)", ".", "[:]", ":").Replace(strings.TrimSuffix(strings.ToLower(n.Value), "."))
	if p, err := netip.ParsePrefix(bare); err == nil && (n.Kind == "" || n.Kind == "network" || n.Kind == "ip") {
		return x.addNetwork(n, p.Masked())
	}
	if a, err := netip.ParseAddr(bare); err == nil && (n.Kind == "" || n.Kind == "ip") {
		return x.addNetwork(n, netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen()))
	}
	switch {
	case n.Kind == "ip" || n.Kind == "network":
		return fmt.Errorf("%q is no address", n.Value)
	case n.Kind == "ja4" || n.Kind == "" && isJA4(bare):
		if !isJA4(bare) {
			return fmt.Errorf("%q is no JA4 fingerprint", n.Value)
		}
		n.Kind = "ja4"
		return index(x, x.ja4s, bare, n)
	case n.Kind == "sni":
		if !plainName(bare) {
			return fmt.Errorf("%q is no name", n.Value)
		}
		return index(x, x.snis, bare, n)
	}
	bare = strings.TrimPrefix(bare, "*.")
	if !plainName(bare) || !strings.Contains(bare, ".") {
		return fmt.Errorf("%q is neither an address, a domain nor a JA4 fingerprint", n.Value)
	}
	if domain, real := domainOf(bare); !real || domain == "" {
		return fmt.Errorf("%q is nobody's own domain", n.Value)
	}
	n.Kind = "domain"
	return index(x, x.domains, bare, n)
}

func (x *Indicators) addNetwork(n Indicator, p netip.Prefix) error {
	a := p.Addr()
	switch {
	case a.Is4() && p.Bits() < 8, a.Is6() && p.Bits() < 16:
		return fmt.Errorf("%q is too wide", n.Value)
	case a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified():
		return fmt.Errorf("%q is no public address", n.Value)
	}
	if p.IsSingleIP() {
		n.Kind = "ip"
		f, err := flow.ParseAddr(a.String())
		if err != nil {
			return fmt.Errorf("%q is no address: %w", n.Value, err)
		}
		return index(x, x.addrs, f, n)
	}
	n.Kind = "network"
	family := 0
	if a.Is6() {
		family = 1
	}
	x.bits[family][p.Bits()] = true
	return index(x, x.networks, p, n)
}

func index[K comparable](x *Indicators, at map[K]int32, key K, n Indicator) error {
	if _, known := at[key]; !known {
		at[key] = int32(len(x.all))
		x.all = append(x.all, n)
	}
	return nil
}

// isJA4 reports the form of https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md: t13d1516h2_8daaf6152771_e5627efa2ab1.
func isJA4(s string) bool {
	return len(s) == 36 && s[10] == '_' && s[23] == '_' && strings.IndexByte("tqd", s[0]) >= 0 &&
		strings.Trim(s[11:23]+s[24:], "0123456789abcdef") == ""
}

// ofAddr finds an address, or the narrowest network that holds it; nil where no list knows it.
func (x *Indicators) ofAddr(a flow.Addr) *Indicator {
	if i, ok := x.addrs[a]; ok {
		return &x.all[i]
	}
	if len(x.networks) == 0 {
		return nil
	}
	ip, family := a.Netip(), 0
	if ip.Is6() {
		family = 1
	}
	for bits := ip.BitLen(); bits > 0; bits-- {
		if !x.bits[family][bits] {
			continue
		}
		if p, err := ip.Prefix(bits); err == nil {
			if i, ok := x.networks[p]; ok {
				return &x.all[i]
			}
		}
	}
	return nil
}

// ofName finds a name, or the nearest domain above it. asked says that a connection asked for it by this very name.
func (x *Indicators) ofName(name string, asked bool) *Indicator {
	if name == "" {
		return nil
	}
	if i, ok := x.snis[name]; ok && asked {
		return &x.all[i]
	}
	if i, domain := nearest(x.domains, name); domain != "" {
		return &x.all[i]
	}
	return nil
}

func (x *Indicators) ofJA4(ja4 string) *Indicator {
	if i, ok := x.ja4s[ja4]; ok && ja4 != "" {
		return &x.all[i]
	}
	return nil
}
