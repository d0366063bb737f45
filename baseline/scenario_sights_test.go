package baseline

import (
	"errors"
	"fmt"

	"github.com/wharfwatch/wharfwatch/enrich"
	"github.com/wharfwatch/wharfwatch/flow"
)

// macOf is the hardware address that Docker makes from an address.
func macOf(a flow.Addr) flow.MAC { return 0x0242<<32 | flow.MAC(uint32(a.Lo)) }

var sightKinds = map[string]flow.SightKind{
	"source": flow.SightSource, "outside": flow.SightOutside, "arp": flow.SightARP, "router": flow.SightRouter, "dhcp": flow.SightDHCP,
}

// sight reads: at kind sender address [to address:port] [told sender].
func (s *scenario) sight(w []string) error {
	if len(w) < 4 || len(w)%2 != 0 || sightKinds[w[1]] == 0 {
		return fmt.Errorf("a sight is: at kind sender address [to address:port] [told sender], kinds are %s", names(sightKinds))
	}
	offset, err := duration(w[0])
	if err != nil {
		return err
	}
	x := flow.Sight{Time: epoch + offset, Kind: sightKinds[w[1]], Proto: flow.TCP, Bridge: true}
	if x.Kind == flow.SightARP {
		x.Proto = 0
	}
	if x.MAC, err = s.mac(w[2]); err != nil {
		return err
	}
	x.Told = x.MAC
	if x.Addr, err = flow.ParseAddr(w[3]); err != nil {
		return err
	}
	for rest := w[4:]; len(rest) > 0; rest = rest[2:] {
		switch rest[0] {
		case "to":
			t := &traffic{s: s}
			if x.Peer, err = t.end(rest[1], &x.Port); err != nil {
				return err
			}
		case "told":
			if x.Told, err = s.mac(rest[1]); err != nil {
				return err
			}
		default:
			return errors.New("the options of a sight are to and told")
		}
	}
	s.steps = append(s.steps,
		step{x.Time, func(g *stage) { g.table.Sights("capture:docker0", []flow.Sight{x}) }},
		step{x.Time + 15*sec, func(g *stage) {
			g.table.Event(&enrich.Event{Time: x.Time + 15*sec, Kind: enrich.Progress, Engine: "local"})
		}})
	return nil
}

func (s *scenario) mac(word string) (flow.MAC, error) {
	if c := s.byName[word]; c != nil {
		return macOf(c.addr), nil
	}
	if m, ok := flow.ParseMAC(word); ok {
		return m, nil
	}
	return 0, fmt.Errorf("%q is neither a container nor a hardware address", word)
}
