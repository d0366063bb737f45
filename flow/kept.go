package flow

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
)

func (a keptKey) compare(b keptKey) int {
	return cmp.Or(a.sender.Compare(b.sender), cmp.Compare(a.version, b.version), cmp.Compare(a.id, b.id))
}

// keep appends what a restart must not lose.
func (d *exportDecoder) keep(to []*keptDomain) []*keptDomain {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exporters.each(func(_ netip.AddrPort, e *exporter) {
		e.domains.each(func(_ domainKey, s *domain) {
			if len(s.templates) == 0 && s.sampling.options == 0 && len(s.sampling.samplers)+len(s.sampling.rated) == 0 {
				return
			}
			k := &keptDomain{
				Exporter: e.addr.Addr(), Port: e.addr.Port(), Version: s.version, Domain: s.id, Seen: s.lastSeen,
				Rate: s.sampling.options, Samplers: maps.Clone(s.sampling.samplers), Interfaces: maps.Clone(s.sampling.rated), Boot: s.timing.init,
			}
			for _, t := range s.templates {
				k.Templates = append(k.Templates, keptTemplate{t.options != nil, t.seen, t.raw})
			}
			slices.SortFunc(k.Templates, func(a, b keptTemplate) int { return slices.Compare(a.Record, b.Record) })
			to = append(to, k)
		})
	})
	return to
}

// restore gives a domain what it had before the restart. The file is believed no more than the wire: everything is checked again. Its
// templates are stale until the exporter sends them.
func (d *exportDecoder) restore(s *domain, arrival int64) {
	k := d.keeper.take(keptKey{s.exporter.addr, s.domainKey})
	if k == nil {
		return
	}
	possible := func(rate uint32) bool { return rate >= 1 && rate <= maxRate }
	for id, rate := range k.Samplers {
		if possible(rate) {
			s.sampling.learn(optionsScope{sampler: id, hasSampler: true}, rate)
		}
	}
	for id, rate := range k.Interfaces {
		if possible(rate) && id != 0 {
			s.sampling.learn(optionsScope{interfaceID: id}, rate)
		}
	}
	if possible(k.Rate) {
		s.sampling.options, s.sampling.whole = k.Rate, len(k.Interfaces) == 0
	}
	if k.Boot > 0 {
		s.timing.init = k.Boot
	}
	for _, t := range k.Templates {
		size, fields, fits := templateSize(t.Record, s.version, t.Options)
		if !fits || size != len(t.Record) || fields == 0 || fields > maxFields || arrival-t.Seen > int64(templateLife) {
			continue
		}
		if id := binary.BigEndian.Uint16(t.Record); id >= 256 && s.templates[id] == nil && d.install(t.Record, s.version, t.Options, id, s, t.Seen) {
			s.templates[id].stale = true
			d.stats.restoredTemplates.Inc()
		}
	}
}
