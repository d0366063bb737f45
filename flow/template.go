package flow

import (
	"bytes"
	"encoding/binary"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
)

const (
	maxFields = 256
	maxRecord = 1400 // bytes: more does not fit a datagram of usual size
)

// template is what one template id means in one domain. Exactly one of plan and options is set.
type template struct {
	raw     []byte // the template record as received: an identical refresh is recognised, and nothing is compiled again
	plan    *plan
	options *optionsPlan
	seen    int64 // arrival of the last refresh
	stale   bool  // known from before a restart, and not sent since
}

// fits reports whether a set of so many bytes may be of this template: whole records and at most three bytes of padding.
func (t *template) fits(size int) bool {
	return t.plan == nil || t.plan.variable || size >= t.plan.size && size%t.plan.size <= 3
}

// templateSet cuts a template set into its records, checks every length in it, and lets goflow2 read one record at a time.
// That bounds what the library allocates, which believes the field counts, and keeps one bad record from losing the others.
//
//	template record          0 id  2 field count  4 fields
//	options record of v9     0 id  2 scope bytes  4 option bytes  6 fields
//	options record of IPFIX  0 id  2 field count  4 scope count   6 fields
func (d *exportDecoder) templateSet(set []byte, version uint16, options bool, s *domain, arrival int64) {
	for x := set[4:]; len(x) >= 4; {
		id, count := binary.BigEndian.Uint16(x), int(binary.BigEndian.Uint16(x[2:]))
		if id == 0 && zero(x) {
			return // padding
		}
		if count == 0 && (!options || version == 10) {
			switch {
			case version != 10:
				d.refuse(s, partFields, 1)
			case d.policy.withdrawals:
				d.withdraw(s, id)
			default: // RFC 7011 8.4 has none over UDP, and a forged one would erase state
				d.refuse(s, partWithdrawal, 1)
			}
			x = x[4:]
			continue
		}
		size, fields, fits := templateSize(x, version, options)
		if !fits {
			d.refuse(s, partTemplateEnd, 1)
			return
		}
		switch {
		case id < 256:
			d.refuse(s, partTemplateID, 1)
		case fields == 0 || fields > maxFields:
			d.refuse(s, partFields, 1)
			d.dropTemplate(s, id)
		default:
			d.template(x[:size], version, options, id, s, arrival)
		}
		x = x[size:]
	}
}

// templateSize measures the record at x.
func templateSize(x []byte, version uint16, options bool) (size, fields int, fits bool) {
	if len(x) < 4 {
		return 0, 0, false
	}
	size, fields = 4, int(binary.BigEndian.Uint16(x[2:]))
	if options {
		if len(x) < 6 {
			return 0, 0, false
		}
		size = 6
		second := int(binary.BigEndian.Uint16(x[4:]))
		if version == 9 {
			if fields%4 != 0 || second%4 != 0 {
				return 0, 0, false
			}
			fields = (fields + second) / 4
		} else if second > fields {
			return 0, 0, false
		}
	}
	for range fields {
		if len(x) < size+4 {
			return 0, 0, false
		}
		if version == 10 && x[size]&0x80 != 0 {
			size += 4
		}
		size += 4
	}
	return size, fields, len(x) >= size
}

// template installs one record that has been measured.
func (d *exportDecoder) template(raw []byte, version uint16, options bool, id uint16, s *domain, arrival int64) {
	old := s.templates[id]
	if old != nil && (old.options != nil) == options && bytes.Equal(old.raw, raw) {
		old.seen = arrival
		d.stats.refreshes.Inc()
		d.keeper.refresh()
		if old.stale {
			old.stale = false
			d.adopt(s, id)
		}
		return
	}
	if !s.exporter.changes.take(arrival) {
		d.refuse(s, partRate, 1)
		return
	}
	if d.install(raw, version, options, id, s, arrival) {
		d.keeper.change()
		d.adopt(s, id)
	}
}

// install compiles a record and puts it in the place of what the id meant before, which it no longer means even where the new one is refused.
func (d *exportDecoder) install(raw []byte, version uint16, options bool, id uint16, s *domain, arrival int64) bool {
	old := s.templates[id]
	fields, err := d.parseTemplate(raw, version, options, s.id)
	if err != nil {
		d.refuse(s, partTemplateEnd, 1)
		return false
	}
	t := &template{raw: bytes.Clone(raw), seen: arrival}
	why, bad := fine, 0
	if options {
		t.options, why = compileOptions(fields)
	} else {
		t.plan, bad, why = compile(fields)
	}
	d.refuse(s, partField, bad)
	if why != fine {
		d.refuse(s, why, 1)
		d.dropTemplate(s, id)
		return false
	}
	if old == nil {
		d.makeRoom(s)
		d.templates++
		s.exporter.templates++
		d.stats.templates.Inc()
	} else {
		d.stats.templateChanges.Inc()
	}
	s.templates[id] = t
	return true
}

// makeRoom keeps the bounds: an exporter at its own loses its oldest template, and all together that of the exporter heard from
// longest ago.
func (d *exportDecoder) makeRoom(s *domain) {
	if s.exporter.templates >= maxExporterTemplates {
		var from *domain
		var id uint16
		s.exporter.domains.each(func(_ domainKey, x *domain) {
			for i, t := range x.templates {
				if from == nil || t.seen < from.templates[id].seen {
					from, id = x, i
				}
			}
		})
		d.dropTemplate(from, id)
		d.stats.evictedTemplates.Inc()
	}
	for d.templates >= maxTemplates && d.exporters.len() > 1 {
		_, e := d.exporters.dropOldest()
		d.dropExporter(e)
	}
}

// withdraw forgets a template of IPFIX; ids 2 and 3 stand for all of data and all of options.
func (d *exportDecoder) withdraw(s *domain, id uint16) {
	for have, t := range s.templates {
		if have == id || id == 2 && t.plan != nil || id == 3 && t.options != nil {
			d.dropTemplate(s, have)
			d.stats.withdrawnTemplates.Inc()
			d.keeper.change()
		}
	}
}

func (d *exportDecoder) dropTemplate(s *domain, id uint16) {
	if s.templates[id] != nil {
		delete(s.templates, id)
		d.forgetTemplates(s.exporter, 1)
	}
}

func (d *exportDecoder) forgetTemplates(e *exporter, n int) {
	d.templates -= n
	e.templates -= n
	d.stats.templates.Add(float64(-n))
}

// parseTemplate lets the library read one record, framed as a set of its own.
func (d *exportDecoder) parseTemplate(raw []byte, version uint16, options bool, domain uint32) ([]field, error) {
	id := uint16(0)
	if version == 10 {
		id = 2
	}
	if options {
		id++
	}
	d.scratch = binary.BigEndian.AppendUint16(d.scratch[:0], id)
	d.scratch = binary.BigEndian.AppendUint16(d.scratch, uint16(4+len(raw)))
	d.scratch = append(d.scratch, raw...)
	d.sink.fields = d.sink.fields[:0]
	_, err := netflow.DecodeMessageCommonFlowSet(bytes.NewBuffer(d.scratch), &d.sink, domain, version)
	return d.sink.fields, err
}

// templateSink is the template store handed to goflow2: it takes the fields of a record and keeps nothing. The library's own
// store is unbounded and never forgets.
type templateSink struct{ fields []field }

func (t *templateSink) AddTemplate(_ uint16, _ uint32, _ uint16, record any) error {
	switch r := record.(type) {
	case netflow.TemplateRecord:
		t.add(r.Fields)
	case netflow.NFv9OptionsTemplateRecord:
		t.add(r.Scopes)
		for i := range t.fields { // scopes of v9 are numbered apart from elements: 1 system, 2 interface, ...
			t.fields[i].pen = scopePEN
		}
		t.add(r.Options)
	case netflow.IPFIXOptionsTemplateRecord:
		t.add(r.Scopes)
		t.add(r.Options)
	}
	return nil
}

// scopePEN keeps scope numbers from being read as elements; no enterprise has it.
const scopePEN = 0xffffffff

func (t *templateSink) add(fields []netflow.Field) {
	for _, f := range fields {
		if f.PenProvided {
			f.Type &^= 0x8000 // the library clears the bit in data templates only
		} else {
			f.Pen = 0
		}
		t.fields = append(t.fields, field{f.Type, f.Length, f.Pen})
	}
}

// GetTemplate, GetTemplates and RemoveTemplate complete the interface; the library does not call them for template sets.
func (t *templateSink) GetTemplate(uint16, uint32, uint16) (any, error) {
	return nil, netflow.ErrorTemplateNotFound
}

func (t *templateSink) GetTemplates() netflow.FlowBaseTemplateSet { return nil }

func (t *templateSink) RemoveTemplate(uint16, uint32, uint16) (any, error) {
	return nil, netflow.ErrorTemplateNotFound
}

var _ netflow.NetFlowTemplateSystem = (*templateSink)(nil)
