package console

import (
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// cookieName begins with __Host-: browsers take it only from https (or localhost), for this host and the whole of it (RFC 6265bis 4.1.3).
const cookieName = "__Host-wharfwatch"

const (
	sessionLasts = 12 * time.Hour
	maxSessions  = 1000

	loginBurst  = 5                // wrong passwords of one network
	loginEvery  = 30 * time.Second // one more
	maxLimited  = 4096             // networks remembered
	maxGuessing = 4                // passwords checked or waiting, 19 MiB each
)

// Session is who the caller is.
type Session struct {
	Name  string `json:"name"`  // "" where nobody has to log in
	Scope Scope  `json:"scope"` // nobody, read, triage, admin
	Login bool   `json:"login"` // one can log in
}

type loginBody struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// sessions are those who are logged in, in memory: a restart logs everybody out. Safe for concurrent use.
type sessions struct {
	now func() time.Time

	mu       sync.Mutex // protects both
	byHash   map[string]session
	failures map[netip.Prefix]bucket

	guessing chan struct{}
}

type session struct {
	user string
	ends time.Time
}

// bucket holds how many wrong passwords were given, less one per loginEvery since.
type bucket struct {
	level float64
	at    time.Time
}

func newSessions() *sessions {
	return &sessions{now: time.Now, byHash: map[string]session{}, failures: map[netip.Prefix]bucket{}, guessing: make(chan struct{}, maxGuessing)}
}

// begin gives the value of a cookie. At the bound the session that ends first goes.
func (s *sessions) begin(user string) string {
	value := rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byHash) >= maxSessions {
		oldest, ends := "", time.Time{}
		for hash, v := range s.byHash {
			if oldest == "" || v.ends.Before(ends) {
				oldest, ends = hash, v.ends
			}
		}
		delete(s.byHash, oldest)
	}
	s.byHash[tokenHash(value)] = session{user, s.now().Add(sessionLasts)}
	return value
}

func (s *sessions) find(value string) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.byHash[tokenHash(value)]
	if ok && s.now().After(v.ends) {
		delete(s.byHash, tokenHash(value))
		return "", false
	}
	return v.user, ok
}

func (s *sessions) end(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byHash, tokenHash(value))
}

// endAll logs a user out everywhere.
func (s *sessions) endAll(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, v := range s.byHash {
		if v.user == user {
			delete(s.byHash, hash)
		}
	}
}

// network is what wrong passwords are counted by: an IPv4 address or an IPv6 /64.
func network(remote string) netip.Prefix {
	host, _, _ := net.SplitHostPort(remote)
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// try counts an attempt before it is judged, so that many at once do not pass; false when there were too many. forgive takes it back.
func (s *sessions) try(from netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	b, known := s.failures[from]
	b.level = max(0, b.level-now.Sub(b.at).Seconds()/loginEvery.Seconds())
	b.at = now
	if b.level+1 > loginBurst {
		return false
	}
	if !known && len(s.failures) >= maxLimited {
		for k, v := range s.failures { // what has run out goes; when nothing has, somebody guesses from everywhere
			if now.Sub(v.at) > loginBurst*loginEvery {
				delete(s.failures, k)
			}
		}
		if len(s.failures) >= maxLimited {
			return false
		}
	}
	b.level++
	s.failures[from] = b
	return true
}

func (s *sessions) forgive(from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failures, from)
}

func (s *Server) session(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r)
	answer(w, Session{Name: c.name, Scope: c.scope, Login: s.deps.Access != nil})
}

var errLogin = errors.New("name or password is wrong")

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var in loginBody
	if !body(w, r, &in) {
		return
	}
	from := network(r.RemoteAddr)
	select {
	case s.sessions.guessing <- struct{}{}:
		defer func() { <-s.sessions.guessing }()
	default: // too many at once
		s.tooMany(w, from)
		return
	}
	if len(in.Password) > 1024 || !s.sessions.try(from) {
		s.tooMany(w, from)
		return
	}
	a, ok := s.deps.Access.user(in.Name)
	if !passwordMatches(a.secret, in.Password) || !ok {
		s.logins["refused"].Inc()
		s.log.Warn("a login was refused", "from", from.Addr().String())
		problem(w, http.StatusUnauthorized, errLogin.Error())
		return
	}
	s.sessions.forgive(from)
	s.logins["ok"].Inc()
	s.log.Info("logged in", "user", a.Name, "from", from.Addr().String())
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.sessions.begin(a.Name), Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, MaxAge: int(sessionLasts.Seconds()),
	})
	answer(w, Session{Name: a.Name, Scope: a.Scope, Login: true})
}

func (s *Server) tooMany(w http.ResponseWriter, from netip.Prefix) {
	s.logins["limited"].Inc()
	s.log.Warn("too many logins", "from", from.Addr().String())
	w.Header().Set("Retry-After", "30")
	problem(w, http.StatusTooManyRequests, "too many logins: wait half a minute")
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c := callerOf(r); c.session != "" {
		s.sessions.end(c.session)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1})
	w.WriteHeader(http.StatusNoContent)
}

type accessBody struct {
	Kind  string `json:"kind"` // users, tokens
	Name  string `json:"name"`
	Scope Scope  `json:"scope"`
}

func (s *Server) accessList(w http.ResponseWriter, _ *http.Request) { items(w, s.deps.Access.List()) }

func (s *Server) accessAdd(w http.ResponseWriter, r *http.Request) {
	var in accessBody
	if !body(w, r, &in) {
		return
	}
	out, err := s.deps.Access.Add(r.Context(), in.Kind, in.Name, in.Scope)
	s.gave(w, r, out, err, "an account was added")
}

func (s *Server) accessPassword(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	out, err := s.deps.Access.Password(r.Context(), name)
	if err == nil {
		s.sessions.endAll(name)
	}
	s.gave(w, r, out, err, "a password was changed")
}

func (s *Server) gave(w http.ResponseWriter, r *http.Request, out Secret, err error, what string) {
	if err != nil {
		refuse(w, err)
		return
	}
	s.log.Info(what, "kind", out.Kind, "name", out.Name, "scope", out.Scope.String(), "by", author(r, ""))
	answer(w, out)
}

func (s *Server) accessRemove(w http.ResponseWriter, r *http.Request) {
	kind, name := r.PathValue("kind"), r.PathValue("name")
	if err := s.deps.Access.Remove(r.Context(), kind, name); err != nil {
		refuse(w, err)
		return
	}
	if kind == User {
		s.sessions.endAll(name)
	}
	s.log.Info("an account was removed", "kind", kind, "name", name, "by", author(r, ""))
	w.WriteHeader(http.StatusNoContent)
}
