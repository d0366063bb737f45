package console

import (
	"compress/gzip"
	"io"
	"log/slog"
	"math"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// TestWebPages holds that every page has its address, under the strict policy, packed and kept; and that without the bundle each says how to
// get it.
func TestWebPages(t *testing.T) {
	s := New(Default(), Deps{}, metrics.NewSet(), slog.New(slog.DiscardHandler))
	get := func(path string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	addresses := []string{"/", "/incidents/abc", "/workloads", "/sources", "/rules", "/detections/beacon", "/about"}
	s.assets = &assets{files: map[string]*asset{}}
	for _, path := range addresses {
		if w := get(path); w.Code != 200 || !strings.Contains(w.Body.String(), "make build") || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s without the bundle: %d %s", path, w.Code, w.Body)
		}
	}
	var packed strings.Builder
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "<!doctype html>")
	z.Close()
	file := &asset{kind: "text/html; charset=utf-8", tag: `"t"`, plain: []byte("<!doctype html>"), gzip: []byte(packed.String())}
	s.assets.files["index.html"], s.assets.files["assets/a.js"] = file, file
	for _, path := range addresses {
		w := get(path)
		for _, want := range []string{"default-src 'none'", "require-trusted-types-for 'script'", "frame-ancestors 'none'"} {
			if policy := w.Header().Get("Content-Security-Policy"); w.Code != 200 || !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: %d, policy %s", path, w.Code, policy)
			}
		}
		if w.Body.String() != "<!doctype html>" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %s %v", path, w.Body, w.Header())
		}
	}
	if w := get("/assets/a.js", "Accept-Encoding: gzip"); w.Body.String() != packed.String() || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Error(w.Header())
	}
	if w := get("/", "If-None-Match: \"t\""); w.Code != 304 || w.Body.Len() != 0 {
		t.Error(w.Code)
	}
	for _, path := range []string{"/assets/b.js", "/assets/..%2findex.html", "/nothing"} {
		if w := get(path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// TestContrast holds that text can be read on everything that lies under it: 4.5 to 1 (WCAG 2.2, 1.4.3), in both palettes.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("web/src/style.css")
	if err != nil {
		t.Fatal(err)
	}
	entry := regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`)
	palettes := regexp.MustCompile(`\{[^{}]*--bg:[^{}]*\}`).FindAllString(string(css), -1)
	if len(palettes) != 3 || strings.Join(entry.FindAllString(palettes[1], -1), "") != strings.Join(entry.FindAllString(palettes[2], -1), "") {
		t.Errorf("%d palettes; the two dark ones must be one", len(palettes))
	}
	for n, p := range palettes {
		light := map[string]float64{}
		for _, m := range entry.FindAllStringSubmatch(p, -1) {
			light[m[1]] = luminance(m[2])
		}
		ratio := func(a, b string) float64 {
			x, y := light[a], light[b]
			return (math.Max(x, y) + .05) / (math.Min(x, y) + .05)
		}
		for _, under := range []string{"bg", "card", "hover"} {
			for _, text := range []string{"fg", "dim", "link", "critical", "high", "medium", "low", "info", "good"} {
				if r := ratio(text, under); r < 4.5 {
					t.Errorf("palette %d: %s on %s is %.2f", n, text, under, r)
				}
			}
		}
		if r := ratio("on-accent", "accent"); r < 4.5 {
			t.Errorf("palette %d: buttons are %.2f", n, r)
		}
	}
}

// luminance is WCAG's relative luminance.
func luminance(hex string) float64 {
	v, _ := strconv.ParseUint(hex, 16, 32)
	part := func(shift int) float64 {
		c := float64(v>>shift&0xff) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*part(16) + .7152*part(8) + .0722*part(0)
}
