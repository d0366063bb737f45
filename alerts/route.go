package alerts

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/wharfwatch/wharfwatch/enrich"
)

// route says which incidents a receiver hears of, beside the least severity. It is asked until the receiver has heard of an incident;
// from then on it hears all of it, to the end.
type route struct {
	workloads []pattern
	labels    []pattern
}

// pattern is a glob over a whole value: * stands for any characters, ? for one.
type pattern struct {
	key string // of the label
	not bool   // written with a ! before it
	re  *regexp.Regexp
}

func compilePattern(glob string) pattern {
	p := pattern{}
	glob, p.not = strings.CutPrefix(glob, "!")
	quoted := regexp.QuoteMeta(glob)
	p.re = regexp.MustCompile(`\A(?s:` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(quoted) + `)\z`)
	return p
}

// matchAny wants one of the patterns without a ! to match, where there are such, and none of those with it.
func matchAny(list []pattern, s string) bool {
	wanted, some := false, false
	for _, p := range list {
		switch {
		case p.not && p.re.MatchString(s):
			return false
		case !p.not:
			some = true
			wanted = wanted || p.re.MatchString(s)
		}
	}
	return wanted || !some
}

// wants says whether the incidents of a workload go this way. Every label named must be there, and match.
func (r *route) wants(workload string, labels []enrich.Label) bool {
	if !matchAny(r.workloads, workload) {
		return false
	}
	for _, p := range r.labels {
		value := ""
		for _, l := range labels {
			if l.Key == p.key {
				value = l.Value
			}
		}
		if p.re.MatchString(value) == p.not {
			return false
		}
	}
	return true
}

func (c *Common) route() route {
	var r route
	for _, w := range c.Workloads {
		r.workloads = append(r.workloads, compilePattern(w))
	}
	for _, l := range c.Labels {
		key, glob, _ := strings.Cut(l, "=")
		key, not := strings.CutSuffix(key, "!")
		p := compilePattern(glob)
		p.key, p.not = key, not
		r.labels = append(r.labels, p)
	}
	return r
}

const labelPrefix = "wharfwatch." // of the labels that enrich keeps

// checkRoute reports what cannot match: a route that silently tells nobody is found out too late.
func (c *Common) checkRoute(report func(key, message string)) {
	for i, w := range c.Workloads {
		key, bare := fmt.Sprintf("workloads[%d]", i), strings.TrimPrefix(w, "!")
		switch {
		case bare == "":
			report(key, "is empty: write a workload such as compose:shop/worker, or a pattern such as compose:shop/*")
		case unmatchable(bare):
			report(key, fmt.Sprintf("%q cannot match: it holds control characters, or spaces around it", w))
		}
	}
	for i, l := range c.Labels {
		key := fmt.Sprintf("labels[%d]", i)
		name, value, ok := strings.Cut(l, "=")
		name = strings.TrimSuffix(name, "!")
		switch {
		case !ok:
			report(key, fmt.Sprintf("%q has no =: write %steam=blue or %steam!=blue", l, labelPrefix, labelPrefix))
		case !strings.HasPrefix(name, labelPrefix) || unmatchable(name):
			report(key, fmt.Sprintf("%q cannot match: only labels of containers that begin with %s are kept", name, labelPrefix))
		case unmatchable(value):
			report(key, fmt.Sprintf("%q cannot match: it holds control characters, or spaces around it", value))
		}
	}
}

func unmatchable(s string) bool {
	return strings.ContainsFunc(s, unicode.IsControl) || strings.TrimSpace(s) != s
}
