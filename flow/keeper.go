package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

const (
	keptVersion   = 1
	keptLimit     = 64 << 20        // bytes of the file
	keptDebounce  = 5 * time.Second // from a change to the write
	keptRefreshed = time.Hour       // and from a mere refresh, so that what is in use does not grow old in the file
)

// keeper keeps templates and sampling rates over restarts: an exporter sends them every some minutes, and until then its data could not be
// read. The file is JSON, written whole and renamed into place. Decoders take what it had when they meet the exporter again; what nobody
// took stays in the file until it is too old. Its methods are safe for concurrent use, and a nil keeper keeps nothing.
type keeper struct {
	path            string
	log             *slog.Logger
	writes, errors  *metrics.Counter
	changed, seen   atomic.Int64 // when the oldest change, and the oldest refresh, that is not in the file was made, ns; 0 none
	writing         sync.Mutex   // one writer at a time; protects failed
	failed          string       // the last error, so that it is said once
	mu              sync.Mutex   // protects what follows
	decoders        []*exportDecoder
	kept            map[keptKey]*keptDomain // of the last run, not taken yet
	quarantined     string                  // what was wrong with the file, "" nothing
	templates, from int                     // how many were found, of how many exporters
}

type keptKey struct {
	sender netip.AddrPort
	domainKey
}

// keptFile is the file. Times are ns of arrival.
type keptFile struct {
	Version int           `json:"version"`
	Domains []*keptDomain `json:"domains"`
}

type keptDomain struct {
	Exporter   netip.Addr        `json:"exporter"`
	Port       uint16            `json:"port,omitempty"` // with flow.key_port
	Version    uint16            `json:"version"`        // 5, 9 or 10
	Domain     uint32            `json:"domain"`
	Rate       uint32            `json:"rate,omitempty"`       // 1:N from options data without a sampler
	Samplers   map[uint64]uint32 `json:"samplers,omitempty"`   // 1:N by sampler
	Interfaces map[uint32]uint32 `json:"interfaces,omitempty"` // 1:N by SNMP index
	Boot       int64             `json:"boot,omitempty"`       // systemInitTimeMilliseconds, ns
	Seen       int64             `json:"seen"`
	Templates  []keptTemplate    `json:"templates,omitempty"`
}

type keptTemplate struct {
	Options bool   `json:"options,omitempty"`
	Seen    int64  `json:"seen"`
	Record  []byte `json:"record"` // as received
}

// openKeeper reads the file. One that cannot be understood is set aside and said; templates are then learned again.
func openKeeper(path string, now int64, set *metrics.Set, log *slog.Logger) *keeper {
	k := &keeper{
		path: path, log: log, kept: map[keptKey]*keptDomain{},
		writes: set.GetOrCreateCounter("wharfwatch_flow_template_file_writes_total"),
		errors: set.GetOrCreateCounter("wharfwatch_flow_template_file_errors_total"),
	}
	err := k.read(now)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return k
	}
	k.quarantined = fmt.Sprintf("%s: %v; set aside as %s, templates are learned again", path, err, filepath.Base(path)+".bad")
	if err := os.Rename(path, path+".bad"); err != nil {
		k.quarantined = fmt.Sprintf("%s: %v; it cannot be set aside either: %v", path, err, err)
	}
	return k
}

func (k *keeper) read(now int64) error {
	info, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	if info.Size() > keptLimit {
		return fmt.Errorf("%d bytes are more than this program writes", info.Size())
	}
	b, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return fmt.Errorf("torn or not ours: %w", err)
	}
	if version.Version != keptVersion {
		return fmt.Errorf("version %d, this program reads %d", version.Version, keptVersion)
	}
	var f keptFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("torn or not ours: %w", err)
	}
	exporters := map[netip.Addr]bool{}
	for _, d := range f.Domains {
		if d == nil || !d.Exporter.IsValid() || now-d.Seen > int64(templateLife) || k.templates+len(d.Templates) > maxTemplates {
			continue
		}
		k.kept[d.key()] = d
		k.templates += len(d.Templates)
		exporters[d.Exporter] = true
	}
	k.from = len(exporters)
	return nil
}

func (d *keptDomain) key() keptKey {
	return keptKey{netip.AddrPortFrom(d.Exporter.Unmap(), d.Port), domainKey{version: d.Version, id: d.Domain}}
}

// note says what was found, "" where that is nothing.
func (k *keeper) note() string {
	switch {
	case k.quarantined != "":
		return k.quarantined
	case k.templates > 0:
		return fmt.Sprintf("%d templates of %d exporters are known from the last run", k.templates, k.from)
	}
	return ""
}

func (k *keeper) add(d *exportDecoder) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d.keeper = k
	k.decoders = append(k.decoders, d)
}

// take hands out what is kept of a domain, once.
func (k *keeper) take(key keptKey) *keptDomain {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.kept[key]
	delete(k.kept, key)
	return d
}

// change and refresh say that the file is behind.
func (k *keeper) change() {
	if k != nil && k.changed.Load() == 0 {
		k.changed.CompareAndSwap(0, time.Now().UnixNano())
	}
}

func (k *keeper) refresh() {
	if k != nil && k.seen.Load() == 0 {
		k.seen.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// run tends the file until done.
func (k *keeper) run(done <-chan struct{}) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			k.tend(now.UnixNano())
		case <-done:
			return
		}
	}
}

// tend writes the file when a change has waited for five seconds, or a refresh for an hour.
func (k *keeper) tend(now int64) {
	k.writing.Lock()
	defer k.writing.Unlock()
	changed, seen := k.changed.Load(), k.seen.Load()
	if changed != 0 && now-changed >= int64(keptDebounce) || seen != 0 && now-seen >= int64(keptRefreshed) {
		k.save()
	}
}

// finish writes what is not in the file yet.
func (k *keeper) finish() {
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.changed.Load() != 0 || k.seen.Load() != 0 {
		k.save()
	}
}

// save writes the file; writing is held. What cannot be written is counted, said once, and tried again five seconds later.
func (k *keeper) save() {
	k.changed.Store(0)
	k.seen.Store(0)
	b, err := json.Marshal(k.snapshot())
	if err == nil {
		err = replaceFile(k.path, b)
	}
	if err == nil {
		k.writes.Inc()
		k.failed = ""
		return
	}
	k.errors.Inc()
	k.change()
	if k.failed != err.Error() && k.log != nil {
		k.log.Warn("templates cannot be kept", "file", k.path, "error", err)
	}
	k.failed = err.Error()
}

// snapshot gathers what all decoders know. Template records are never changed, so that they need no copy.
func (k *keeper) snapshot() *keptFile {
	f := &keptFile{Version: keptVersion}
	k.mu.Lock() // never held together with a decoder's: decoders call take
	decoders := k.decoders
	waiting := slices.Collect(maps.Values(k.kept))
	k.mu.Unlock()
	for _, d := range decoders {
		f.Domains = d.keep(f.Domains)
	}
	f.Domains = append(f.Domains, waiting...)
	slices.SortStableFunc(f.Domains, func(a, b *keptDomain) int { return a.key().compare(b.key()) })
	f.Domains = slices.CompactFunc(f.Domains, func(a, b *keptDomain) bool { return a.key() == b.key() }) // taken meanwhile
	return f
}

// replaceFile makes a file be b, or leaves it as it was, whatever happens meanwhile.
// One writer at a time.
func replaceFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
