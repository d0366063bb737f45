package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// dist is what `make web` bundles; in a binary built without it there is only the placeholder.
//
//go:embed all:web/dist
var dist embed.FS

// webPolicy lets the console load itself and talk to itself, and nothing else. Trusted Types keep text from becoming markup
// (https://www.w3.org/TR/trusted-types/).
const webPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
	"form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// webPages are the addresses that the bundle draws. Every view has one, so that it can be linked to.
var webPages = []string{"/{$}", "/incidents/{id}", "/workloads", "/sources", "/rules", "/detections/{id}", "/about"}

const noWeb = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Wharfwatch</title>
<h1>Wharfwatch</h1>
<p>This binary was built without the web console. <code>make build</code> in a checkout builds it in (it needs npm); everything else works:
the <code>wharfwatch</code> command, the API below <code>/api/v1/</code>, <a href="/metrics">/metrics</a> and <a href="/healthz">/healthz</a>.</p>
</html>
`

// asset is one file, packed once.
type asset struct {
	kind, tag   string
	plain, gzip []byte
}

// assets are the files of the web console by address; none when it was not built in.
type assets struct{ files map[string]*asset }

func loadAssets() *assets {
	a := &assets{files: map[string]*asset{}}
	_ = fs.WalkDir(dist, "web/dist", func(name string, d fs.DirEntry, err error) error { // of memory: cannot fail
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		text, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is known
		z.Write(text)
		z.Close()
		sum := sha256.Sum256(text)
		kind := mime.TypeByExtension(path.Ext(name))
		switch path.Ext(name) { // not what the host's tables say
		case ".js":
			kind = "text/javascript; charset=utf-8"
		case ".txt":
			kind = "text/plain; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		}
		a.files[strings.TrimPrefix(name, "web/dist/")] = &asset{kind, `"` + hex.EncodeToString(sum[:8]) + `"`, text, packed.Bytes()}
		return nil
	})
	return a
}

// web serves the console: the same page at each of its addresses, and its files. They hold nothing secret: without a login they show one.
func (s *Server) web(mux *http.ServeMux) {
	index := func(w http.ResponseWriter, r *http.Request) {
		if page := s.assets.files["index.html"]; page != nil {
			page.serve(w, r, "no-cache")
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(noWeb))
	}
	for _, address := range webPages {
		mux.HandleFunc("GET "+address, index)
	}
	mux.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		file := s.assets.files["assets/"+r.PathValue("name")]
		if file == nil {
			http.NotFound(w, r)
			return
		}
		file.serve(w, r, "public, max-age=31536000, immutable") // the name holds the hash
	})
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request, keep string) {
	h := w.Header()
	h.Set("Content-Security-Policy", webPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", keep)
	h.Set("Vary", "Accept-Encoding")
	h.Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := a.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body = a.gzip
		h.Set("Content-Encoding", "gzip")
	}
	w.Write(body)
}
