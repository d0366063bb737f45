package flow

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
)

// A log is followed from its end, over rotation, truncation, lines written in halves, and a time without a file.
func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "dns.log")
		head := zeekDNSLog[:strings.Index(zeekDNSLog, "99.5\t")]
		row := func(name string) string {
			return "1.5\tD1\t172.18.0.2\t5000\t172.18.0.1\t53\tudp\t1\t-\t" + name + "\t1\t-\t-\t-\n"
		}
		write := func(flags int, text string) {
			t.Helper()
			f, err := os.OpenFile(path, os.O_WRONLY|flags, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(text); err != nil || f.Close() != nil {
				t.Fatal(err)
			}
		}
		write(os.O_CREATE, head+row("before")+row("half")[:20])
		set := metrics.NewSet()
		tail := OpenTail(path, LogZeek, NewPool(4), set, slog.New(slog.DiscardHandler))
		var mu sync.Mutex // around got and beats
		var got []string
		beats := 0
		heard := func() int {
			mu.Lock()
			defer mu.Unlock()
			return beats
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			done <- tail.Run(ctx, func(b *Batch) {
				mu.Lock()
				defer mu.Unlock()
				beats++
				if b.Source != "zeek:"+path || b.Watermark != b.Arrival-tailLag || b.Arrival != time.Now().UnixNano() {
					t.Errorf("batch of %s, %d behind", b.Source, b.Arrival-b.Watermark)
				}
				for _, n := range b.Names {
					got = append(got, n.Name)
				}
				b.Free()
			})
		}()
		after := func(want ...string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			got = nil
		}
		after()
		write(os.O_APPEND, row("half")[20:]+row("one")+row("two")[:15])
		after("one")
		write(os.O_APPEND, row("two")[15:])
		after("two")
		write(os.O_APPEND, row("three")+strings.TrimSuffix(row("end"), "\n"))
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		after("three", "end")
		if s := tail.Status(); s.Open || s.Err != "" {
			t.Errorf("without a file: %+v", s)
		}
		before := heard()
		after()
		if heard() != before {
			t.Error("a watermark without a file")
		}
		write(os.O_CREATE, head+row("four"))
		after("four")
		before = heard()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := heard() - before; n < 9 || n > 11 {
			t.Errorf("%d heartbeats in 10 s of silence", n)
		}
		write(os.O_TRUNC, head)
		after()
		write(os.O_APPEND, row("five"))
		after("five")
		write(os.O_APPEND, strings.Repeat("x", 2*logLine)+"\n"+row("six"))
		after("six")
		if s := tail.Status(); !s.Open || s.Rows == 0 || s.LastRow == 0 {
			t.Errorf("%+v", s)
		}
		if n := set.GetOrCreateCounter(`wharfwatch_flow_log_files_total{format="zeek"}`).Get(); n != 2 {
			t.Errorf("%d files", n)
		}
		if ignored := ignoredRows(set, LogZeek); ignored != [4]uint64{0, 0, 1, 0} {
			t.Errorf("ignored %v", ignored)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// More rows than a batch holds come in several, and none is lost.
func TestTailBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "eve.json")
		tail := OpenTail(path, LogEVE, NewPool(4), metrics.NewSet(), slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(context.Background())
		done, names := make(chan error), 0
		go func() {
			done <- tail.Run(ctx, func(b *Batch) {
				if len(b.Names) > batchRecords {
					t.Errorf("%d names", len(b.Names))
				}
				names += len(b.Names)
				b.Free()
			})
		}()
		synctest.Wait() // the file is not there at the start
		var text strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&text, `{"timestamp":"2024-03-01T09:00:00+0000","event_type":"dns","src_ip":"10.0.0.1","src_port":1,"dest_ip":"10.0.0.2","dest_port":53,"dns":{"type":"query","rrname":"x%d","rrtype":"A"}}`+"\n", i)
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if names != 5000 {
			t.Errorf("%d names", names)
		}
		stop()
		<-done
	})
}

func TestLogsInConfig(t *testing.T) {
	c := Default()
	c.Zeek, c.EVE = []string{"conn.log", "", "off"}, []string{"conn.log"}
	var got []string
	c.Validate(func(path, _ string) { got = append(got, path) })
	if diff := cmp.Diff([]string{"zeek[1]", "zeek[2]", "eve[0]"}, got); diff != "" {
		t.Error(diff)
	}
	c.Zeek, c.EVE = []string{"off"}, []string{"off"}
	c.Validate(func(path, message string) { t.Errorf("%s: %s", path, message) })
	if sources, notes := c.tails(NewPool(1), metrics.NewSet(), slog.New(slog.DiscardHandler)); len(sources)+len(notes) != 0 {
		t.Errorf("%d sources, %q", len(sources), notes)
	}
}
