package alerts

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for hosts and images without time zones

	"github.com/wharfwatch/wharfwatch/baseline"
)

// MuteTime is a part of the week that receivers name in mute or active.
type MuteTime struct {
	Name     string   `yaml:"name"`
	Days     []string `yaml:"days"`      // mon, tue, … or mon-fri; empty every day. A window over midnight belongs to the day in which it begins
	From     string   `yaml:"from"`      // HH:MM by the clock of the time zone; empty 00:00
	To       string   `yaml:"to"`        // HH:MM, not included; earlier than from: on the next day; empty 24:00
	TimeZone string   `yaml:"time_zone"` // such as Europe/Berlin; empty the host's
	Below    string   `yaml:"below"`     // incidents of this severity or more are told all the same; empty critical, none: all are muted
}

const noSeverity = baseline.Critical + 1

// window is a MuteTime as it is asked.
type window struct {
	name     string
	days     [7]bool
	from, to int // minutes of the day
	zone     *time.Location
	below    baseline.Severity
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (m *MuteTime) window(report func(key, message string)) window {
	w := window{name: m.Name, to: 24 * 60, zone: time.Local, below: baseline.Critical}
	for i, text := range m.Days {
		first, last, span := strings.Cut(strings.ToLower(text), "-")
		if !span {
			last = first
		}
		from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if from < 0 || to < 0 {
			report(fmt.Sprintf("days[%d]", i), fmt.Sprintf("unknown day %q, known are %s, and spans such as mon-fri", text, strings.Join(dayNames, ", ")))
			continue
		}
		for d := from; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == to {
				break
			}
		}
	}
	if len(m.Days) == 0 {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	for _, t := range []struct {
		key, text string
		to        *int
	}{{"from", m.From, &w.from}, {"to", m.To, &w.to}} {
		if t.text == "" {
			continue
		}
		if at, err := time.Parse("15:04", t.text); err == nil {
			*t.to = at.Hour()*60 + at.Minute()
		} else if t.text != "24:00" {
			report(t.key, fmt.Sprintf("%q is no time of day: write HH:MM, such as 22:00", t.text))
		} else {
			*t.to = 24 * 60
		}
	}
	if w.from == w.to || w.from == 24*60 {
		report("to", "the window is empty: it ends where it begins")
	}
	if m.TimeZone != "" {
		zone, err := time.LoadLocation(m.TimeZone)
		if err != nil {
			report("time_zone", fmt.Sprintf("unknown time zone %q: write one such as Europe/Berlin or UTC", m.TimeZone))
			zone = time.UTC
		}
		w.zone = zone
	}
	switch m.Below {
	case "":
	case "none":
		w.below = noSeverity
	default:
		if err := w.below.UnmarshalText([]byte(m.Below)); err != nil {
			report("below", err.Error())
		}
	}
	return w
}

// covers says whether a time lies in the window.
func (w *window) covers(t time.Time) bool {
	t = t.In(w.zone)
	at, today := t.Hour()*60+t.Minute(), t.Weekday()
	if w.from < w.to {
		return w.days[today] && w.from <= at && at < w.to
	}
	return w.days[today] && at >= w.from || w.days[(today+6)%7] && at < w.to
}

// hours are the times in which a receiver is not told.
type hours struct {
	mute   []window // not in these
	active []window // only in these; none: always
}

func (h *hours) quiet(t time.Time, s baseline.Severity) bool {
	for i := range h.mute {
		if w := &h.mute[i]; s < w.below && w.covers(t) {
			return true
		}
	}
	for i := range h.active {
		if w := &h.active[i]; s >= w.below || w.covers(t) {
			return false
		}
	}
	return len(h.active) > 0
}

const mostQuiet = 8 * 24 * time.Hour // then it is looked at again: the week has no hour in which the receiver may be told

// until says when a receiver may be told again of an incident of this severity; false: now. Clocks change in whole minutes, so minutes
// are what is looked at.
func (h *hours) until(now time.Time, s baseline.Severity) (time.Time, bool) {
	if len(h.mute)+len(h.active) == 0 || !h.quiet(now, s) {
		return time.Time{}, false
	}
	end := now.Add(mostQuiet)
	for t := now.Truncate(time.Minute).Add(time.Minute); t.Before(end); t = t.Add(time.Minute) {
		if !h.quiet(t, s) {
			return t, true
		}
	}
	return end, true
}

// windows builds the mute times by name; report hears of each problem with its path.
func (c *Config) windows(report func(path, message string)) map[string]window {
	out := map[string]window{}
	for i := range c.MuteTimes {
		m, path := &c.MuteTimes[i], fmt.Sprintf("mute_times[%d]", i)
		_, twice := out[m.Name]
		switch {
		case twice:
			report(path+".name", fmt.Sprintf("%q is there twice", m.Name))
		case len(m.Name) > 64 || !plain(m.Name) || m.Name == "":
			report(path+".name", "must have 1 to 64 letters, digits, '.', '_' and '-'")
		}
		out[m.Name] = m.window(func(key, message string) { report(path+"."+key, message) })
	}
	return out
}

// hours looks up what a receiver names.
func (c *Common) hours(known map[string]window, report func(key, message string)) hours {
	var h hours
	for _, l := range []struct {
		key   string
		names []string
		to    *[]window
	}{{"mute", c.Mute, &h.mute}, {"active", c.Active, &h.active}} {
		for i, name := range l.names {
			w, ok := known[name]
			if !ok {
				message := fmt.Sprintf("%q is none of alerts.mute_times", name)
				if len(known) > 0 {
					message = fmt.Sprintf("unknown mute time %q, known are %s", name, strings.Join(sorted(known), ", "))
				}
				report(fmt.Sprintf("%s[%d]", l.key, i), message)
				continue
			}
			*l.to = append(*l.to, w)
		}
	}
	return h
}
