package baseline

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/wharfwatch/wharfwatch/enrich"
)

const (
	lifecycleVersion = 1
	churnHours       = 48      // before that, no number of starts is unusual
	churnMemory      = 7 * 24  // hours over which the usual rate is averaged
	churnRatio       = 3       // times the largest hour
	churnTail        = 1e-4    // of a Poisson distribution with the usual rate
	churnDecay       = .9979   // of the largest hour, per hour: half in two weeks
	churnSilence     = 35 * 24 // hours without a start after which it begins afresh
)

// churn counts starts by the hour and knows how many are usual.
type churn struct {
	hour   int64   // in which starts are counted; 0 none yet
	starts uint32  // in it
	rate   float64 // exponentially weighted mean of the hours before
	peak   float64 // largest hour, decaying
	hours  uint32  // watched, saturating
	told   int64   // hour
}

// start counts one start and reports whether so many within the hour are to be told: at most once a day.
func (c *churn) start(at int64, floor int) bool {
	h := at / hour
	switch {
	case c.hour == 0 || h-c.hour > churnSilence:
		*c = churn{hour: h}
	default:
		for ; c.hour < h; c.hour++ {
			c.hours = min(c.hours+1, math.MaxInt32)
			c.rate += (float64(c.starts) - c.rate) * max(1/float64(c.hours), 1./churnMemory)
			c.peak = max(c.peak*churnDecay, float64(c.starts))
			c.starts = 0
		}
	}
	c.starts++
	if c.hours < churnHours || int(c.starts) < floor || float64(c.starts) <= churnRatio*c.peak || h-c.told < 24 {
		return false
	}
	if poissonTail(int(c.starts), c.rate+.5) >= churnTail {
		return false
	}
	c.told = h
	return true
}

// poissonTail is P(X >= n) of a Poisson distribution.
func poissonTail(n int, mean float64) float64 {
	term, below := math.Exp(-mean), 0.
	for k := range n {
		below += term
		term *= mean / float64(k+1)
	}
	return max(1-below, 0)
}

func (c *churn) encode(out *writer) {
	out.int(c.hour)
	out.uint(uint64(c.starts))
	out.float(c.rate)
	out.float(c.peak)
	out.uint(uint64(c.hours))
	out.int(c.told)
}

func (c *churn) decode(r *reader) {
	*c = churn{hour: r.int(), starts: uint32(r.uint()), rate: r.float(), peak: r.float(), hours: uint32(r.uint()), told: r.int()}
}

func encodeLife(v *life, out *writer) {
	out.int(v.born)
	out.bool(v.outside)
	v.churn.encode(out)
	out.hashes(v.execs)
	out.int(v.shorts)
}

func decodeLife(r *reader, v *life) {
	v.born, v.outside = r.int(), r.bool()
	v.churn.decode(r)
	v.execs, v.shorts = r.hashes(maxExecs), r.int()
}

// lifeEngines is what is known of engines: when they were adopted, their images, how many containers they start.
type lifeEngines struct {
	byName  map[string]*lifeEngine
	refused *metrics.Counter
}

type lifeEngine struct {
	adopted int64 // when its first list was complete; 0 not yet
	images  map[string]bool
	churn   churn
	deaths  []int64 // of the last minutes; not kept
	dirty   bool    // adopted, churn
	grown   []string
}

// engineKey begins the keys of engines, imageKey those of their images, a few at a time. No workload begins so.
const (
	engineKey = " engine "
	imageKey  = " image "
)

func newLifeEngines(env *env) lifeEngines {
	return lifeEngines{byName: map[string]*lifeEngine{}, refused: env.set.NewCounter(`wharfwatch_baseline_refused_total{table="lifecycle"}`)}
}

func (l *lifeEngines) of(name string) *lifeEngine {
	e := l.byName[name]
	if e == nil {
		e = &lifeEngine{images: map[string]bool{}}
		if len(l.byName) < maxEngines {
			l.byName[name] = e
		} else {
			l.refused.Inc()
		}
	}
	return e
}

func (l *lifeEngines) touch(name string) { l.of(name).dirty = true }

func (l *lifeEngines) adopt(v *enrich.Event) {
	if e := l.of(v.Engine); e.adopted == 0 {
		e.adopted, e.dirty = max(v.Time, 1), true
	}
}

// image notes an image and reports whether its engine never had it.
func (l *lifeEngines) image(v *enrich.Event) bool {
	e, name := l.of(v.Engine), repository(v.Container)
	if name == "" || e.images[name] {
		return false
	}
	if len(e.images) >= maxImages {
		l.refused.Inc()
		return false // full: nothing can be called new any more
	}
	e.images[name] = true
	e.grown = append(e.grown, name)
	return true
}

// died counts the ends on an engine in the last two minutes, the one in hand not included.
func (l *lifeEngines) died(v *enrich.Event) int {
	e := l.of(v.Engine)
	e.deaths = slices.DeleteFunc(e.deaths, func(at int64) bool { return v.Time-at > 2*minute })
	n := len(e.deaths)
	if n < maxRuns {
		e.deaths = append(e.deaths, v.Time)
	}
	return n
}

// Dirty yields workloads, then engines, then images.
func (l *lifecycle) Dirty(yield func(key string, blob []byte) bool) {
	more := true
	l.memory.Dirty(func(key string, blob []byte) bool {
		more = yield(key, blob)
		return more
	})
	var out writer
	for _, name := range slices.Sorted(maps.Keys(l.engines.byName)) {
		e := l.engines.byName[name]
		if more && e.dirty {
			out.reset(lifecycleVersion)
			out.int(e.adopted)
			e.churn.encode(&out)
			if more = yield(engineKey+name, out.b); more {
				e.dirty = false
			}
		}
		for more && len(e.grown) > 0 {
			out.reset(lifecycleVersion)
			out.string(name)
			out.string(e.grown[0])
			if more = yield(imageKey+name+" "+e.grown[0], out.b); more {
				e.grown = e.grown[1:]
			}
		}
	}
}

// Restore takes one key back.
func (l *lifecycle) Restore(key string, blob []byte) error {
	if name, ok := strings.CutPrefix(key, engineKey); ok {
		r := newReader(blob, lifecycleVersion)
		e := lifeEngine{adopted: r.int()}
		e.churn.decode(r)
		if err := r.done(); err != nil {
			return err
		}
		have := l.engines.of(name)
		have.adopted, have.churn = e.adopted, e.churn
		return nil
	}
	if strings.HasPrefix(key, imageKey) {
		r := newReader(blob, lifecycleVersion)
		engine, image := r.string(), r.string()
		if err := r.done(); err != nil {
			return err
		}
		if e := l.engines.of(engine); len(e.images) < maxImages {
			e.images[image] = true
		}
		return nil
	}
	return l.memory.Restore(key, blob)
}
