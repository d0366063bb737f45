package enrich

import "github.com/wharfwatch/wharfwatch/flow"

// portMap knows which container published a port of its host when. It is bounded.
type portMap struct {
	at      map[uint32][]published // by port and protocol, see service
	n       int
	evicted uint64
	drop    func(holder uint32)
}

// published is one container's time with a port.
type published struct {
	addr     flow.Addr // of the host; zero for all of them
	from, to int64
	holder   uint32
	engine   uint8
}

const maxPublished = 1 << 16

// open notes what a running container publishes from t on. It reports how many ports are new.
// Another container of the engine that had one of them has gone unheard.
func (x *portMap) open(holder uint32, engine uint8, c *Container, t int64) (opened int32) {
next:
	for _, p := range c.Ports {
		addr := p.HostIP
		if addr == flow.Addr4(0) {
			addr = flow.Addr{}
		}
		key := service(p.Host, p.Proto)
		for i := range x.at[key] {
			switch o := &x.at[key][i]; {
			case o.to != forever || o.addr != addr:
			case o.holder == holder:
				continue next
			case o.engine == engine:
				o.to = max(t, o.from)
			}
		}
		if x.n >= maxPublished {
			x.evicted++
			continue
		}
		if x.at == nil {
			x.at = map[uint32][]published{}
		}
		x.at[key] = append(x.at[key], published{addr, t, forever, holder, engine})
		x.n++
		opened++
	}
	return opened
}

// close ends what a container published.
func (x *portMap) close(holder uint32, c *Container, t int64) {
	for _, p := range c.Ports {
		of := x.at[service(p.Host, p.Proto)]
		for i := range of {
			if of[i].holder == holder && of[i].to == forever {
				of[i].to = max(t, of[i].from)
			}
		}
	}
}

// prune forgets what ended before t.
func (x *portMap) prune(t int64) {
	for k, of := range x.at {
		kept := of[:0]
		for _, p := range of {
			if p.to >= t {
				kept = append(kept, p)
				continue
			}
			x.n--
			x.drop(p.holder)
		}
		if x.at[k] = kept; len(kept) == 0 {
			delete(x.at, k)
		}
	}
}
