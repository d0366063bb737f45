package baseline

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/wharfwatch/wharfwatch/flow"
)

// asking is one line of the names section: questions of one container to a resolver.
type asking struct {
	n       flow.Name
	pattern string
	at      int64
	repeat  repetition
}

// repetition is how often, and when, something happens again.
type repetition struct {
	every   int64
	poisson bool
	times   int
	until   int64
	rng     *rand.Rand
}

// name reads: at container name [address…] [option value]…
func (s *scenario) name(w []string) error {
	if len(w) < 4 {
		return errors.New("a name is: at container name address…, or at container name option value…")
	}
	offset, err := duration(w[0])
	if err != nil {
		return err
	}
	c := s.byName[w[1]]
	if c == nil {
		return fmt.Errorf("unknown container %q, known are %s", w[1], names(s.byName))
	}
	a := &asking{pattern: w[2], at: offset, repeat: repetition{rng: rand.New(rand.NewPCG(1, 1))}, n: flow.Name{
		Kind: flow.NameDNS, Client: c.addr, Server: flow.Addr4(0xC0000235), Port: 53, QType: 1, TTL: 86400, Proto: flow.UDP,
	}}
	if _, err := a.spell(0); err != nil {
		return err
	}
	rest := w[3:]
	for len(rest) > 0 && nameOptions[rest[0]] == nil {
		addr, err := flow.ParseAddr(rest[0])
		if err != nil {
			return fmt.Errorf("%q is neither an address nor an option (%s)", rest[0], names(nameOptions))
		}
		a.n.Addrs, rest = append(a.n.Addrs, addr), rest[1:]
	}
	for ; len(rest) > 0; rest = rest[2:] {
		set := nameOptions[rest[0]]
		if set == nil {
			return fmt.Errorf("unknown option %q, known are %s", rest[0], names(nameOptions))
		}
		if len(rest) == 1 {
			return fmt.Errorf("option %q has no value", rest[0])
		}
		if err := set(a, rest[1]); err != nil {
			return fmt.Errorf("%s: %w", rest[0], err)
		}
	}
	return a.expand(s)
}

var queryTypes = map[string]uint16{"A": 1, "NS": 2, "CNAME": 5, "NULL": 10, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}

var rcodes = map[string]uint8{"noerror": 0, "servfail": 2, "nxdomain": 3, "refused": 5}

var nameOptions = map[string]func(a *asking, value string) error{
	"type": func(a *asking, v string) error {
		t, ok := queryTypes[v]
		if a.n.QType = t; !ok {
			return fmt.Errorf("unknown question type %q, known are %s", v, names(queryTypes))
		}
		return nil
	},
	"answer": func(a *asking, v string) error {
		if v == "none" {
			a.n.Kind = flow.NameQuery
			return nil
		}
		code, ok := rcodes[v]
		if a.n.RCode = code; !ok {
			return fmt.Errorf("unknown answer %q, known are none, %s", v, names(rcodes))
		}
		return nil
	},
	"resolver": func(a *asking, v string) (err error) { a.n.Server, err = flow.ParseAddr(v); return },
	"every":    func(a *asking, v string) (err error) { a.repeat.every, err = duration(v); return },
	"poisson": func(a *asking, v string) (err error) {
		a.repeat.poisson = true
		a.repeat.every, err = duration(v)
		return
	},
	"times": func(a *asking, v string) (err error) { a.repeat.times, err = strconv.Atoi(v); return },
	"for": func(a *asking, v string) (err error) {
		a.repeat.until, err = duration(v)
		a.repeat.until += a.at
		return
	},
	"seed": func(a *asking, v string) error {
		n, err := strconv.ParseUint(v, 10, 64)
		a.repeat.rng = rand.New(rand.NewPCG(n, 1))
		return err
	},
}

// expand makes the questions.
func (a *asking) expand(s *scenario) error {
	r := &a.repeat
	if r.every > 0 && r.times == 0 && r.until == 0 {
		return errors.New("a repetition needs an end: times 12, or for 3h")
	}
	const most = 1 << 18
	for n, at := 0, a.at; ; n++ {
		if n > most {
			return fmt.Errorf("more than %d names", most)
		}
		if r.times > 0 && n >= r.times || r.until > 0 && at >= r.until || r.every == 0 && n > 0 {
			return nil
		}
		q := a.n
		q.Time, q.Addrs = epoch+at, slices.Clone(a.n.Addrs)
		q.Name, _ = a.spell(n)
		s.steps = append(s.steps, step{q.Time, func(g *stage) { g.table.Names([]flow.Name{q}) }})
		gap := float64(r.every)
		if r.poisson {
			gap *= r.rng.ExpFloat64()
		}
		at += int64(gap)
	}
}

// spell fills the pattern: {n} is the number of the question, {hex:40} and {abc:12} are random digits and letters.
func (a *asking) spell(n int) (string, error) {
	var out strings.Builder
	rest := a.pattern
	for {
		before, after, ok := strings.Cut(rest, "{")
		out.WriteString(before)
		if !ok {
			return out.String(), nil
		}
		piece, tail, ok := strings.Cut(after, "}")
		kind, count, _ := strings.Cut(piece, ":")
		alphabet := map[string]string{"hex": "0123456789abcdef", "abc": "abcdefghijklmnopqrstuvwxyz", "b32": "abcdefghijklmnopqrstuvwxyz234567"}[kind]
		size, err := strconv.Atoi(count)
		switch {
		case !ok || kind != "n" && (alphabet == "" || err != nil || size < 1 || size > 63):
			return "", fmt.Errorf("%q: {n}, {hex:40}, {abc:12} or {b32:50}, up to 63", a.pattern)
		case kind == "n":
			out.WriteString(strconv.Itoa(n))
		default:
			for range size {
				out.WriteByte(alphabet[a.repeat.rng.IntN(len(alphabet))])
			}
		}
		rest = tail
	}
}
