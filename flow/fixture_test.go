package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

var update = flag.Bool("update-netflow", false, "write the golden records of the exporter fixtures")

// fixtures are captures of what softflowd sent, made by testdata/make.sh from testdata/traffic.pcap.
var fixtures = []string{"softflowd-v5", "softflowd-v9", "softflowd-ipfix"}

// capturedPayloads returns the UDP payloads of a capture.
func capturedPayloads(t testing.TB, file []byte) (all [][]byte) {
	p, err := openPackets(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	u := newUDPParser(p.LinkType())
	for {
		data, _, err := p.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, payload, is := u.payload(data); is {
			all = append(all, payload)
		}
	}
}

// readDatagrams decodes a capture of export datagrams.
func readDatagrams(t *testing.T, file string) (records []Record, set *metrics.Set, status []ExporterStatus) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set = metrics.NewSet()
	s := OpenDatagrams(file, bytes.NewReader(b), NewPool(4), set)
	err = s.Run(context.Background(), func(b *Batch) {
		records = append(records, b.Records...)
		b.Free()
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, set, s.Exporters()
}

// What softflowd made of the same packets, in all versions, record by record.
func TestFixtures(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			got, _, status := readDatagrams(t, "testdata/"+name+".pcap")
			if len(got) == 0 || len(status) == 0 {
				t.Fatal("no records")
			}
			golden := "testdata/" + name + ".json"
			var b bytes.Buffer
			for i := range got {
				line, err := json.Marshal(&got[i])
				if err != nil {
					t.Fatal(err)
				}
				b.Write(append(line, '\n'))
			}
			if *update {
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// A capture of export datagrams is told from other traffic packet by packet.
func TestLooksLikeExport(t *testing.T) {
	for _, name := range fixtures {
		b, err := os.ReadFile("testdata/" + name + ".pcap")
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range capturedPayloads(t, b) {
			if !LooksLikeExport(p) {
				t.Errorf("%s: datagram %d does not look like one", name, i)
			}
		}
	}
	for name, s := range map[string]string{
		"empty":                  "",
		"dns query":              "000a 0100 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001",
		"dns query with id 9":    "0009 0100 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001",
		"ntp":                    "2300 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000",
		"v5 without its records": "0005 0002 000f4240 65000000 00000000 00000001 00000000",
	} {
		if LooksLikeExport(unhex(t, s)) {
			t.Errorf("%s looks like an export", name)
		}
	}
}

// A file that is no capture, or ends early, is an error that names it.
func TestDatagramsErrors(t *testing.T) {
	whole, err := os.ReadFile("testdata/softflowd-v9.pcap")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("not a capture at all"), "cut": whole[:len(whole)-3]} {
		s := OpenDatagrams(name, bytes.NewReader(b), NewPool(1), newLab(t, Config{}).set)
		err := s.Run(context.Background(), func(b *Batch) { b.Free() })
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// The configured sampling rate holds for files as well.
func TestDatagramsConfigured(t *testing.T) {
	b, err := os.ReadFile("testdata/softflowd-v5.pcap")
	if err != nil {
		t.Fatal(err)
	}
	s := OpenDatagrams("softflowd-v5.pcap", bytes.NewReader(b), NewPool(1), newLab(t, Config{}).set)
	if err := s.Configure(Config{Sampling: []SamplingRate{{Exporter: "127.0.0.0/8", Rate: 50}}}); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = s.Run(context.Background(), func(b *Batch) {
		for _, r := range b.Records {
			if r.Sampling != 50 {
				t.Errorf("rate %d", r.Sampling)
			}
			n++
		}
		b.Free()
	})
	if err != nil || n == 0 {
		t.Errorf("%d records, error %v", n, err)
	}
	if err := s.Configure(Config{Sampling: []SamplingRate{{Exporter: "nowhere", Rate: 50}}}); err == nil {
		t.Error("a prefix that is none")
	}
}

// Datagrams of a file are handed over by their times, as live, and not when a batch is full: event time must not pass over what lies
// between them.
func TestDatagramsBatches(t *testing.T) {
	head, err := os.ReadFile("testdata/softflowd-v5.pcap")
	if err != nil {
		t.Fatal(err)
	}
	file := bytes.NewBuffer(head[:24:24])
	frames := []time.Duration{0, 10 * time.Millisecond, time.Second, time.Minute, time.Minute + 15*time.Millisecond, time.Hour}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := pcapgo.NewWriter(file)
	for i, at := range frames {
		f := serialize(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(1000, 2055), gopacket.Payload(v5(uint32(i), 1000, 0, 1)))
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: start.Add(at), CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	err = OpenDatagrams("file", file, NewPool(1), newLab(t, Config{}).set).Run(context.Background(), func(b *Batch) {
		got = append(got, len(b.Records))
		b.Free()
	})
	if diff := cmp.Diff([]int{2, 1, 2, 1}, got); diff != "" || err != nil {
		t.Errorf("records by batch (-want +got):\n%s%v", diff, err)
	}
}
