package flow

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// segmentFile is one file of kept packets, as its name says.
type segmentFile struct {
	name        string
	first, last int64 // ns; last is the present for an open one
	link        uint32
	open        bool
	size        int64
	modified    int64
}

func segmentName(first, last int64, link uint32) string {
	end := "open"
	if last != 0 {
		end = fmt.Sprintf("%019d", last)
	}
	return fmt.Sprintf("%019d-%s-%d.pcap", first, end, link)
}

// close renames an open segment once its last packet is known.
func (f segmentFile) close(dir string, last int64) (segmentFile, error) {
	name := segmentName(f.first, last, f.link)
	if err := os.Rename(filepath.Join(dir, f.name), filepath.Join(dir, name)); err != nil {
		return f, err
	}
	f.name, f.last, f.open = name, last, false
	return f, nil
}

// listSegments reads the index, oldest first. Other files are left alone.
func listSegments(dir string) (files []segmentFile, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		base, is := strings.CutSuffix(e.Name(), ".pcap")
		part := strings.Split(base, "-")
		if !is || len(part) != 3 {
			continue
		}
		f := segmentFile{name: e.Name(), open: part[1] == "open"}
		first, err1 := strconv.ParseInt(part[0], 10, 64)
		last, err2 := strconv.ParseInt(part[1], 10, 64)
		link, err3 := strconv.ParseUint(part[2], 10, 32)
		info, err4 := e.Info()
		if err1 != nil || err2 != nil && !f.open || err3 != nil || err4 != nil {
			continue
		}
		f.first, f.last, f.link, f.size, f.modified = first, last, uint32(link), info.Size(), info.ModTime().UnixNano()
		if f.open {
			f.last = 1<<63 - 1
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b segmentFile) int { return cmp.Compare(a.first, b.first) })
	return files, nil
}

// PacketFilter says which packets to cut out. Hosts and Port are those of the innermost packet; each host must be one of its two ends.
type PacketFilter struct {
	From, To int64 // ns, both included
	Hosts    []netip.Prefix
	Port     uint16 // of either end; 0 any
}

func (f *PacketFilter) wants(k *packet) bool {
	for _, h := range f.Hosts {
		if !h.Contains(k.src.Netip()) && !h.Contains(k.dst.Netip()) {
			return false
		}
	}
	return f.Port == 0 || (k.proto == TCP || k.proto == UDP) && (k.sport == f.Port || k.dport == f.Port)
}

// maxCut bounds what CutPackets holds in memory, bytes.
const maxCut = 256 << 20

// ErrCut says that the slice is larger than 256 MiB: a shorter time, or a host, makes it smaller.
var ErrCut = errors.New("more than 256 MiB of packets: choose a shorter time, or a host")

// kept is one packet of a slice.
type kept struct {
	at   int64
	link uint32
	wire int
	data []byte
}

// CutPackets writes the packets in dir that f wants to w, as pcapng, in the order of time, and says how many they are. It may run while a
// monitor writes there: a file that is removed meanwhile is left out. Nothing is written when there is none.
func CutPackets(dir string, f PacketFilter, w io.Writer) (packets int, err error) {
	files, err := listSegments(dir)
	if err != nil {
		return 0, fmt.Errorf("cut packets: %w", err)
	}
	var all []kept
	size := 0
	for _, s := range files {
		if s.first > f.To || s.last < f.From {
			continue
		}
		if all, size, err = cutSegment(filepath.Join(dir, s.name), &f, all, size); err != nil {
			return 0, fmt.Errorf("cut packets: %w", err)
		}
	}
	if len(all) == 0 {
		return 0, nil
	}
	slices.SortStableFunc(all, func(a, b kept) int { return cmp.Compare(a.at, b.at) })
	return len(all), writeCut(w, all)
}

func cutSegment(name string, f *PacketFilter, all []kept, size int) ([]kept, int, error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) { // rotated away, or closed and renamed: the monitor is faster
		return all, size, nil
	}
	if err != nil {
		return all, size, err
	}
	defer file.Close()
	var r frameReader
	if err := r.open(file); err != nil {
		return all, size, nil // begun this moment
	}
	var p parser
	var k packet
	for {
		link, frame, wire, at, err := r.next()
		if err != nil { // the end; that of an open file, or of one that a power failure cut, may be inside a packet
			return all, size, nil
		}
		v := p.parse(&k, link, frame, wire, 0, at) // every packet: fragments borrow their ports from earlier ones
		if at < f.From || at > f.To || (len(f.Hosts) > 0 || f.Port != 0) && (v != used || !f.wants(&k)) {
			continue
		}
		if size += len(frame) + 64; size > maxCut {
			return all, size, ErrCut
		}
		all = append(all, kept{at, link, wire, slices.Clone(frame)})
	}
}

func writeCut(w io.Writer, all []kept) error {
	describe := func(link uint32) pcapgo.NgInterface {
		return pcapgo.NgInterface{LinkType: layers.LinkType(link), TimestampResolution: 9, SnapLength: pcapFrame}
	}
	ng, err := pcapgo.NewNgWriterInterface(w, describe(all[0].link), pcapgo.NgWriterOptions{})
	if err != nil {
		return fmt.Errorf("cut packets: %w", err)
	}
	ids := map[uint32]int{all[0].link: 0}
	for _, k := range all {
		id, known := ids[k.link]
		if !known {
			if id, err = ng.AddInterface(describe(k.link)); err != nil {
				return fmt.Errorf("cut packets: %w", err)
			}
			ids[k.link] = id
		}
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, k.at), CaptureLength: len(k.data), Length: max(k.wire, len(k.data)), InterfaceIndex: id}
		if err := ng.WritePacket(info, k.data); err != nil {
			return fmt.Errorf("cut packets: %w", err)
		}
	}
	return ng.Flush()
}
