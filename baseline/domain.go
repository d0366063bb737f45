package baseline

import (
	"math"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// domainOf is the domain that somebody registered for a name, by the public suffix list with its private section
// (https://publicsuffix.org): example.co.uk of a.b.example.co.uk. real says that it is one of the public DNS: names below lan, internal,
// cluster.local or arpa, and single labels, are not.
func domainOf(name string) (domain string, real bool) {
	suffix, icann := publicsuffix.PublicSuffix(name)
	if len(suffix) >= len(name) {
		return name, false
	}
	if suffix == "arpa" || strings.HasSuffix(suffix, ".arpa") {
		return suffix, false
	}
	at := strings.LastIndexByte(name[:len(name)-len(suffix)-1], '.') + 1
	return name[at:], icann || strings.Contains(suffix, ".")
}

// below reports whether a name is one of the domains, or below one.
func below(name string, domains []string) bool {
	for _, d := range domains {
		if name == d || len(name) > len(d) && strings.HasSuffix(name, d) && name[len(name)-len(d)-1] == '.' {
			return true
		}
	}
	return false
}

// entropy is Shannon's, in bits per byte.
func entropy(s string) (bits float64) {
	var counts [256]uint8 // a name is shorter than 256 bytes
	for i := range min(len(s), 255) {
		counts[s[i]]++
	}
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

// hash64 is FNV-1a. It allocates nothing.
func hash64(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// looksRandom reports whether a label was hardly thought up by a person: four consonants in a row, few vowels, or digits among letters.
func looksRandom(label string) bool {
	if len(label) < 7 {
		return false
	}
	letters, vowels, digits, run, longest := 0, 0, 0, 0, 0
	for i := range len(label) {
		switch c := label[i]; {
		case strings.IndexByte("aeiouy", c) >= 0:
			letters, vowels, run = letters+1, vowels+1, 0
		case c >= 'a' && c <= 'z':
			letters, run = letters+1, run+1
			longest = max(longest, run)
		case c >= '0' && c <= '9':
			digits++
		default:
			run = 0
		}
	}
	return longest >= 5 || 4*vowels < letters || digits >= 2 && letters >= 3 && 5*digits >= len(label)
}
