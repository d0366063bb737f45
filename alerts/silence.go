package alerts

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Silence stops notification, and nothing else: the incident opens, is counted and shown. All fields are required.
type Silence struct {
	ID       int       `json:"id"`
	Matchers []Matcher `json:"matchers"` // all of them must match each finding that counts
	Starts   Time      `json:"starts"`   // wall clock
	Ends     Time      `json:"ends"`
	Author   string    `json:"author"`
	Comment  string    `json:"comment"`
}

// Matcher compares one label: workload, container, image, detector, subject, severity or incident.
type Matcher struct {
	Label string `json:"label"`
	Op    string `json:"op"` // = != =~ !~; patterns are anchored at both ends
	Value string `json:"value"`

	pattern *regexp.Regexp
}

var matcherForm = regexp.MustCompile(`^\s*([a-z_]+)\s*(=~|!~|!=|=)\s*(.*?)\s*$`)

var silenceLabels = []string{"workload", "container", "image", "detector", "subject", "severity", "incident"}

// ParseMatcher reads `label=value`; the value may stand in double quotes.
func ParseMatcher(s string) (Matcher, error) {
	parts := matcherForm.FindStringSubmatch(s)
	if parts == nil {
		return Matcher{}, fmt.Errorf("matcher %q: want label=value, label!=value, label=~pattern or label!~pattern", s)
	}
	m := Matcher{Label: parts[1], Op: parts[2], Value: parts[3]}
	if v, err := strconv.Unquote(m.Value); err == nil && strings.HasPrefix(m.Value, `"`) {
		m.Value = v
	}
	return m, m.compile()
}

func (m *Matcher) compile() error {
	if !slices.Contains(silenceLabels, m.Label) {
		return fmt.Errorf("matcher on unknown label %q, known are %s", m.Label, strings.Join(silenceLabels, ", "))
	}
	switch m.Op {
	case "=", "!=":
		return nil
	case "=~", "!~":
		p, err := regexp.Compile("^(?:" + m.Value + ")$")
		if err != nil {
			return fmt.Errorf("matcher on %s: %w", m.Label, err)
		}
		m.pattern = p
		return nil
	}
	return fmt.Errorf("matcher on %s: unknown operator %q, known are = != =~ !~", m.Label, m.Op)
}

func (m *Matcher) match(v string) bool {
	switch m.Op {
	case "=":
		return v == m.Value
	case "!=":
		return v != m.Value
	case "=~":
		return m.pattern.MatchString(v)
	default:
		return !m.pattern.MatchString(v)
	}
}

// check says what is missing, and prepares the patterns.
func (s *Silence) check(now time.Time) error {
	var errs []error
	if len(s.Matchers) == 0 {
		errs = append(errs, errors.New("a silence needs at least one matcher"))
	}
	for i := range s.Matchers {
		errs = append(errs, s.Matchers[i].compile())
	}
	if s.Starts == 0 || s.Ends == 0 {
		errs = append(errs, errors.New("a silence needs a start and an end"))
	} else if s.Ends <= s.Starts || s.Ends <= Wall(now) {
		errs = append(errs, errors.New("the end of a silence must lie behind its start and in the future"))
	}
	if strings.TrimSpace(s.Author) == "" || strings.TrimSpace(s.Comment) == "" {
		errs = append(errs, errors.New("a silence needs an author and a comment"))
	}
	return errors.Join(errs...)
}

// active says whether notification is stopped at a time of the wall clock.
func (s *Silence) active(now Time) bool { return s.Starts <= now && now < s.Ends }

// matches says whether the silence covers each finding that counts: one that is not covered makes the incident heard.
func (s *Silence) matches(in *Incident) bool {
	some := false
	for i := range in.Findings {
		f := &in.Findings[i]
		if !f.counts(in.Generation) {
			continue
		}
		some = true
		for j := range s.Matchers {
			if !s.Matchers[j].match(label(in, f, s.Matchers[j].Label)) {
				return false
			}
		}
	}
	return some
}

func label(in *Incident, f *Finding, name string) string {
	switch name {
	case "workload":
		return in.Workload
	case "container":
		return in.Container.Name
	case "image":
		return in.Container.Image
	case "detector":
		return f.Detector
	case "subject":
		return f.Subject
	case "severity":
		return in.Severity.String()
	}
	return in.ID
}
