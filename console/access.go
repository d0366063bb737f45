package console

import (
	"context"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Scope is what a caller may do. Each includes those before it.
type Scope uint8

// The scopes: nobody has logged in; looks; acts on incidents, rules and silences; also on receivers and on who may what.
const (
	Nobody Scope = iota
	Read
	Triage
	Admin
)

var scopeNames = [...]string{"nobody", "read", "triage", "admin"}

// String is the word for it.
func (s Scope) String() string { return scopeNames[s] }

// MarshalText writes the word.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads one of the words that can be given: read, triage, admin.
func (s *Scope) UnmarshalText(b []byte) error {
	for i, name := range scopeNames[Read:] {
		if name == string(b) {
			*s = Read + Scope(i)
			return nil
		}
	}
	return fmt.Errorf("scope %q is none of read, triage, admin", b)
}

// caller is who asks. The zero value may nothing.
type caller struct {
	name    string // of the user or token; "" where nobody has to log in
	scope   Scope
	session string // of the cookie
}

type callerKey struct{}

func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey{}).(caller)
	return c
}

func withCaller(r *http.Request, c caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

// may answers the refusal itself.
func (s *Server) may(w http.ResponseWriter, r *http.Request, least Scope) bool {
	c := callerOf(r)
	switch {
	case c.scope >= least:
		return true
	case c.scope == Nobody:
		s.refused.Inc()
		w.Header().Set("WWW-Authenticate", `Bearer realm="wharfwatch"`)
		problem(w, http.StatusUnauthorized, "log in, or send a token (Authorization: Bearer …; wharfwatch access add makes one)")
	case c.name == "":
		s.refused.Inc()
		problem(w, http.StatusForbidden, fmt.Sprintf("this needs the scope %s: use the wharfwatch command on the monitor's host", least))
	default:
		s.refused.Inc()
		problem(w, http.StatusForbidden, fmt.Sprintf("this needs the scope %s, and %s has %s", least, c.name, c.scope))
	}
	return false
}

// trusted is the control socket: whoever can open it may everything.
func trusted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, withCaller(r, caller{scope: Admin})) })
}

// guard is what stands before the TCP listener.
func (s *Server) guard(next http.Handler) http.Handler {
	loopback, login := s.loopback(), s.needsLogin()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loopback && !localName(r.Host) {
			s.refused.Inc()
			problem(w, http.StatusForbidden, fmt.Sprintf("this address answers only to localhost: Host is %q", r.Host))
			return
		}
		c := caller{scope: Triage}
		if login {
			c = caller{}
		}
		given, bearer, ok := s.credentials(r)
		switch {
		case !ok:
			s.refused.Inc()
			w.Header().Set("WWW-Authenticate", `Bearer realm="wharfwatch", error="invalid_token"`)
			problem(w, http.StatusUnauthorized, "the token is not known: it was removed, or is not whole")
			return
		case given.name != "":
			c = given
		}
		if why := s.foreign(r, bearer); why != "" {
			s.refused.Inc()
			problem(w, http.StatusForbidden, why)
			return
		}
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); writes(r) && r.ContentLength != 0 && (err != nil || t != "application/json") {
			problem(w, http.StatusUnsupportedMediaType, "the body must be application/json")
			return
		}
		next.ServeHTTP(w, withCaller(r, c))
	})
}

// credentials finds who is named by a token or a cookie; not ok is a token that nobody has.
func (s *Server) credentials(r *http.Request) (c caller, bearer, ok bool) {
	if s.deps.Access == nil {
		return caller{}, false, true
	}
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, _ := strings.Cut(h, " ")
		a, known := s.deps.Access.byToken(strings.TrimSpace(token))
		if !strings.EqualFold(scheme, "Bearer") || !known {
			return caller{}, true, false
		}
		return caller{name: "token:" + a.Name, scope: a.Scope}, true, true
	}
	if cookie, err := r.Cookie(cookieName); err == nil {
		if name, ok := s.sessions.find(cookie.Value); ok {
			if a, ok := s.deps.Access.user(name); ok {
				return caller{name: a.Name, scope: a.Scope, session: cookie.Value}, false, true
			}
		}
	}
	return caller{}, false, true
}

func writes(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// foreign says why a change may come from another site's page; "" when it does not. Browsers send Sec-Fetch-Site or Origin with every
// change, and no page can forge them (https://owasp.org/www-community/attacks/csrf). A token proves itself.
func (s *Server) foreign(r *http.Request, bearer bool) string {
	if !writes(r) || bearer {
		return ""
	}
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if site != "" && site != "same-origin" {
		return "a change was asked for by the page of another site"
	}
	if origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return fmt.Sprintf("a change was asked for by the page of another site: Origin is %q", origin)
		}
	}
	if site == "" && origin == "" {
		return "a change needs the Origin of this console, or a token; the wharfwatch command needs neither"
	}
	return ""
}

func (s *Server) loopback() bool {
	a, ok := s.tcp.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

func (s *Server) needsLogin() bool { return s.config.Login == Always || !s.loopback() }

// localName accepts what a browser sends when it was pointed at this machine by the user, and nothing that a hostile name server
// could point here (DNS rebinding).
func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
