package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/wharfwatch/wharfwatch/flow"
)

// present says which of the files are not there before hours are spent on the others.
func present(files []string) error {
	for _, name := range files {
		if name == "-" {
			continue
		}
		switch _, err := os.Stat(name); {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("replay %s: there is no such file", name)
		case err != nil:
			return fmt.Errorf("replay: %w", err)
		}
	}
	return nil
}

// file reads the next input in the format that was given or that its first bytes show, and says how many files that were: logs that stand
// beside each other are read together.
func (r *replay) file(ctx context.Context, files []string, progress *progress) (used int, err error) {
	name := files[0]
	if info, err := os.Stat(name); name != "-" && err == nil && info.IsDir() {
		stream, err := flow.OpenStream(name)
		if err != nil {
			return 1, fmt.Errorf("replay %s: it is a directory without a recorded stream: name the files in it: %w", name, err)
		}
		return 1, r.recorded(ctx, name, stream, progress)
	}
	in, err := r.open(name)
	if err != nil {
		return 1, err
	}
	defer in.Close()
	buffered, err := unpacked(name, progress.reader(in))
	if err != nil {
		return 1, err
	}
	format, err := formatOf(r.flags.format, name, buffered)
	if err != nil {
		return 1, err
	}
	switch format {
	case "stream":
		stream, err := flow.NewStreamReader(name, buffered)
		if err != nil {
			return 1, err
		}
		return 1, r.recorded(ctx, name, stream, progress)
	case "nfcapd":
		return 1, r.log(ctx, name, flow.OpenNfcapd(name, buffered, r.pool, r.set), progress)
	case "zeek", "eve":
		return r.logs(ctx, files, flow.LogFormat(format), buffered, progress)
	}
	return 1, r.capture(ctx, name, format, buffered, progress)
}

// open opens a file, or standard input.
func (r *replay) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(r.g.stdin), nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return file, nil
}

// unpacked buffers an input so that its first bytes can be looked at, and unpacks it where it was packed with gzip.
func unpacked(name string, in io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(in, 1<<20)
	if head, _ := b.Peek(2); string(head) != "\x1f\x8b" { // whoever reads next sees the error
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("replay %s: unpack: %w", name, err)
	}
	return bufio.NewReaderSize(z, 1<<20), nil
}

// capture reads a pcap or pcapng file: of mirrored traffic, or of export datagrams. What can be read of a file that was cut off counts.
func (r *replay) capture(ctx context.Context, name, format string, in io.Reader, progress *progress) (err error) {
	packets, cut := r.set.GetOrCreateCounter("wharfwatch_flow_packets_total"), r.set.GetOrCreateCounter("wharfwatch_flow_files_truncated_total")
	packetsBefore, cutBefore, recordsBefore := packets.Get(), cut.Get(), r.records
	emit := func(b *flow.Batch) {
		r.take(b, name)
		progress.show(r.now)
	}
	truncated := false
	if format == "netflow" {
		source := flow.OpenDatagrams(name, in, r.pool, r.set)
		if err = source.Configure(r.config.Flow); err == nil {
			err = source.Run(ctx, emit)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && r.records > recordsBefore {
			truncated, err = true, nil
		}
		r.taken += r.records - recordsBefore
		r.untranslated(name, source)
	} else {
		err = flow.OpenPcap(name, in, r.pool, r.set).Run(ctx, emit)
		truncated = cut.Get() > cutBefore
		r.taken += packets.Get() - packetsBefore
	}
	if truncated {
		r.note("%s ends in the middle of a packet: it was cut off, or is still being written; what came before counts", name)
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the file was cut off before its first packet ended: copy or capture it again", err)
	case err == nil && ctx.Err() != nil:
		return errInterrupted
	}
	return err
}

var errInterrupted = errors.New("replay: interrupted; what is printed is what was found until then, and nothing was learned")

// untranslated says of whom data came without the template that explains it.
func (r *replay) untranslated(name string, source *flow.Datagrams) {
	for _, e := range source.Exporters() {
		if e.WithoutTemplate > 0 {
			r.note("%s: %d data sets of %s could not be read, their template is not in the file: capture for longer than its template refresh", name, e.WithoutTemplate, e.Source)
		}
	}
}

// take is the way of one batch: what run does with it, with the file's own clock.
func (r *replay) take(b *flow.Batch, name string) {
	if !r.began && len(b.Records) > 0 {
		r.began = true
		if r.now-b.Watermark > minute {
			r.note("%s begins at %s, long before %s which has been reached: give files in the order of time, and merge those of the same time first",
				name, stamp(b.Watermark), stamp(r.now))
		}
	}
	r.pending = true
	arrival := b.Arrival
	r.clock.Observe(b.Source, b.Watermark, arrival)
	r.resume(b)
	r.out.records(b.Records)
	r.batch(b)
	if at, ok := r.clock.Watermark(arrival); ok && at > r.lesson.from() {
		r.advance(at)
	}
}

// formatOf finds out what an input is by its first bytes, unless that was said: a recorded stream, mirrored packets, a capture of export
// datagrams, which are UDP payloads that begin like NetFlow or IPFIX, a file of nfcapd, a log.
func formatOf(said, name string, in *bufio.Reader) (string, error) {
	head, err := in.Peek(1 << 16)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("replay %s: %w", name, err)
	case len(head) == 0:
		return "", fmt.Errorf("replay %s: it is empty: whatever should have written it wrote nothing, or not yet", name)
	case said == "stream":
		return said, nil
	case said == "nfcapd" && !flow.IsNfcapd(head), said == "zeek" && head[0] != '#' && head[0] != '{', said == "eve" && head[0] != '{':
		return "", fmt.Errorf("replay %s: it is not what --format %s reads (it begins with % x)", name, said, head[:min(len(head), 8)])
	case said == "nfcapd" || said == "zeek" || said == "eve":
		return said, nil
	case said == "auto" && flow.IsStream(head):
		return "stream", nil
	case said == "auto" && flow.IsNfcapd(head):
		return "nfcapd", nil
	case said == "auto" && flow.IsZeek(head):
		return "zeek", nil
	case said == "auto" && flow.IsEVE(head):
		return "eve", nil
	case isCapture(head):
	case said != "auto":
		return "", fmt.Errorf("replay %s: it is no pcap or pcapng file, which --format %s reads", name, said)
	default:
		return "", unknown(name, head)
	}
	switch {
	case said != "auto":
		return said, nil
	case flow.CaptureOfExports(head):
		return "netflow", nil
	}
	return "pcap", nil
}

// unknown says what is known of an input that cannot be read.
func unknown(name string, head []byte) error {
	begins := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	if begins("BZh") || begins("\xfd7zXZ") || begins("\x28\xb5\x2f\xfd") {
		return fmt.Errorf("replay %s: it is compressed: unpack it, or pipe it into wharfwatch replay -", name)
	}
	return fmt.Errorf("replay %s: it is no capture (pcap, pcapng), no nfcapd file, no log of Zeek or Suricata and no recorded stream (it begins with % x)",
		name, head[:min(len(head), 8)])
}

// isCapture knows the magic numbers of pcap (both byte orders, microseconds and nanoseconds) and pcapng.
func isCapture(head []byte) bool {
	for _, magic := range []string{"\xd4\xc3\xb2\xa1", "\xa1\xb2\xc3\xd4", "\x4d\x3c\xb2\xa1", "\xa1\xb2\x3c\x4d", "\x0a\x0d\x0d\x0a"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}
