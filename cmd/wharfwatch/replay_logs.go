package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/wharfwatch/wharfwatch/flow"
)

// log feeds what a source of records reads from files.
func (r *replay) log(ctx context.Context, name string, source flow.Source, progress *progress) error {
	cut := r.set.GetOrCreateCounter("wharfwatch_flow_files_truncated_total")
	cutBefore, recordsBefore := cut.Get(), r.records
	err := source.Run(ctx, func(b *flow.Batch) {
		r.take(b, name)
		progress.show(r.now)
	})
	r.taken += r.records - recordsBefore
	if cut.Get() > cutBefore {
		r.note("%s ends in the middle of a block: it was cut off, or is still being written; what came before counts", name)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && r.records > recordsBefore {
		r.note("%s ends early: %v; what came before counts", name, err)
		err = nil
	}
	if err == nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// logs reads the logs of one format that stand beside each other: of the same kind one after the other, of different kinds side by side. The
// first of them is open.
func (r *replay) logs(ctx context.Context, files []string, format flow.LogFormat, first *bufio.Reader, progress *progress) (used int, err error) {
	var readers []*flow.ProgressReader
	groups := map[string]int{}
	var sorted [][]flow.LogFile
	add := func(head []byte, file flow.LogFile) {
		kind := ""
		if format == flow.LogZeek {
			kind = flow.ZeekPath(head)
		}
		i, ok := groups[kind]
		if !ok {
			i = len(sorted)
			groups[kind], sorted = i, append(sorted, nil)
		}
		sorted[i] = append(sorted[i], file)
		used++
	}
	head, _ := first.Peek(1 << 16) // formatOf has seen it
	add(head, flow.LogFile{Name: files[0], Open: func() (io.ReadCloser, error) { return io.NopCloser(first), nil }})
	for _, name := range files[1:] {
		head, ok := r.isLog(name, format)
		if !ok {
			break
		}
		add(head, flow.LogFile{Name: name, Open: func() (io.ReadCloser, error) {
			file, err := r.open(name)
			if err != nil {
				return nil, err
			}
			readers = append(readers, flow.NewProgressReader(file))
			b, err := unpacked(name, readers[len(readers)-1])
			return struct {
				io.Reader
				io.Closer
			}{b, file}, err
		}})
	}
	name := files[0]
	if used > 1 {
		name = fmt.Sprintf("%s and %d more", name, used-1)
	}
	before, left := progress.before, r.unread(format)
	source := flow.OpenLogs(files[0], format, sorted, r.pool, r.set)
	err = r.log(ctx, name, watched{source, func() {
		progress.before = before
		for _, p := range readers {
			progress.before += p.Bytes()
		}
	}}, progress)
	for i, n := range r.unread(format) {
		if n > left[i] {
			r.note("%s: %d %s", name, n-left[i], unusable[i].text)
		}
	}
	return used, err
}

// watched calls a function with each batch.
type watched struct {
	flow.Source
	each func()
}

func (w watched) Run(ctx context.Context, emit func(*flow.Batch)) error {
	return w.Source.Run(ctx, func(b *flow.Batch) {
		w.each()
		emit(b)
	})
}

// isLog says whether a file that follows is a log of the same format; what cannot be opened says so when its turn comes.
func (r *replay) isLog(name string, format flow.LogFormat) (head []byte, ok bool) {
	if name == "-" {
		return nil, false
	}
	file, err := r.open(name)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	in, err := unpacked(name, file)
	if err != nil {
		return nil, false
	}
	got, err := formatOf(r.flags.format, name, in)
	if err != nil || got != string(format) {
		return nil, false
	}
	head, _ = in.Peek(1 << 16) // formatOf has seen it
	return head, true
}

// unusable are the reasons for which rows are left out that a person should know of.
var unusable = []struct{ reason, text string }{
	{"malformed", "rows are not what the format says"},
	{"long", "lines are longer than a line may be"},
	{"protocol", "rows name a protocol without a number"},
}

// unread counts, by unusable, the rows that could not be used so far.
func (r *replay) unread(format flow.LogFormat) (n [3]uint64) {
	for i, u := range unusable {
		n[i] = r.set.GetOrCreateCounter(fmt.Sprintf("wharfwatch_flow_log_rows_ignored_total{format=%q,reason=%q}", format, u.reason)).Get()
	}
	return n
}
