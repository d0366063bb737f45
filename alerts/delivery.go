package alerts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Delivery sends what the outbox holds: at least once, for each receiver and key in order, never before it is durable.
//
// One worker per receiver: a dead receiver stalls nobody else. A message that has to wait lets those of other incidents pass.
type Delivery struct {
	receivers []*worker
	store     *Store
	silenced  func(*Incident) (Time, bool)
	log       *slog.Logger
}

// worker is one receiver at run time. Its goroutine owns it.
type worker struct {
	*Receiver
	d      *Delivery
	client *http.Client
	bucket *bucket
	plain  time.Time // until then what the vendor refused is left out
	gone   string    // why the receiver was disabled; until the next start
	mu     sync.Mutex

	resendAt time.Time // see resender

	sent, retried, repeats, buried, unresent *metrics.Counter
	latency                                  *metrics.Histogram
}

const (
	plainFor   = 24 * time.Hour
	idlePoll   = time.Minute     // a safety net: changes wake the workers
	stopGrace  = 3 * time.Second // for an attempt under way when Run ends
	storeRetry = 2 * time.Second
	pruneEvery = time.Hour
)

// NewDelivery builds the receivers of the configuration. silenced is Manager.Silenced.
func NewDelivery(c Config, store *Store, silenced func(*Incident) (Time, bool), set *metrics.Set, log *slog.Logger) (*Delivery, error) {
	return newDelivery(c, store, silenced, set, log, nil)
}

func newDelivery(c Config, store *Store, silenced func(*Incident) (Time, bool), set *metrics.Set, log *slog.Logger,
	dial func(ctx context.Context, network, addr string) (net.Conn, error),
) (*Delivery, error) {
	receivers, err := c.Receivers()
	if err != nil {
		return nil, err
	}
	d := &Delivery{store: store, silenced: silenced, log: log}
	buckets := map[string]*bucket{}
	for _, r := range receivers {
		if buckets[r.endpoint] == nil {
			buckets[r.endpoint] = newBucket(r.rate, r.burst)
		}
		name := func(what string) string { return fmt.Sprintf("wharfwatch_alerts_%s{receiver=%q}", what, r.Name) }
		d.receivers = append(d.receivers, &worker{
			Receiver: r, d: d, client: newClient(r.timeout, r.linkLocal, dial), bucket: buckets[r.endpoint],
			sent:     set.GetOrCreateCounter(name("deliveries_sent_total")),
			retried:  set.GetOrCreateCounter(name("deliveries_retried_total")),
			repeats:  set.GetOrCreateCounter(name("deliveries_ambiguous_total")),
			buried:   set.GetOrCreateCounter(name("deliveries_dead_total")),
			unresent: set.GetOrCreateCounter(name("resends_failed_total")),
			latency:  set.GetOrCreateHistogram(name("delivery_seconds")),
		})
		for _, state := range []string{queued, dead} {
			set.GetOrCreateGauge(fmt.Sprintf("wharfwatch_alerts_outbox{receiver=%q,state=%q}", r.Name, state), func() float64 {
				n, err := store.Counts(r.Name)
				if err != nil {
					return -1
				}
				return float64(n[state])
			})
		}
	}
	return d, nil
}

// Receivers lists the receivers, for preview and test.
func (d *Delivery) Receivers() []*Receiver {
	var out []*Receiver
	for _, w := range d.receivers {
		out = append(out, w.Receiver)
	}
	return out
}

// Receiver finds a receiver by name.
func (d *Delivery) Receiver(name string) (*Receiver, error) {
	for _, w := range d.receivers {
		if w.Name == name {
			return w.Receiver, nil
		}
	}
	return nil, fmt.Errorf("receiver %q: %w", name, ErrNotFound)
}

// Disabled says which receivers were given up until the next start, and why.
func (d *Delivery) Disabled() map[string]string {
	out := map[string]string{}
	for _, w := range d.receivers {
		w.mu.Lock()
		if w.gone != "" {
			out[w.Name] = w.gone
		}
		w.mu.Unlock()
	}
	return out
}

// Run delivers until ctx ends. An attempt under way then gets a short grace; what is not delivered stays in the outbox.
func (d *Delivery) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range d.receivers {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Go(func() { d.prune(ctx) })
	wg.Wait()
	for _, w := range d.receivers {
		w.client.CloseIdleConnections()
	}
	return nil
}

func (d *Delivery) prune(ctx context.Context) {
	for {
		if err := d.store.Prune(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.Warn("remove old incidents and deliveries", "error", err)
		}
		if !sleep(ctx, pruneEvery, nil) {
			return
		}
	}
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := w.d.store.signal.wait() // before looking: no change is missed
		round := w.resend(ctx, time.Now())
		wait, err := w.step(ctx)
		wait = min(wait, round)
		if err != nil && ctx.Err() == nil {
			w.d.log.Error("outbox", "receiver", w.Name, "error", err)
			wait, changed = storeRetry, nil
		}
		if wait > 0 && !sleep(ctx, wait, changed) {
			return
		}
	}
}

// step looks for one message and tries it. It says how long there is nothing to do; 0 means look again at once.
func (w *worker) step(ctx context.Context) (wait time.Duration, err error) {
	now := time.Now()
	id, m, next, err := w.d.store.due(w.Name, now)
	var damaged *unreadable
	switch {
	case errors.As(err, &damaged):
		w.buried.Inc()
		w.d.log.Error("a waiting message is damaged and set aside: see wharfwatch notify failed", "receiver", w.Name, "id", damaged.id, "error", damaged.err)
		return 0, w.d.store.setAside(ctx, damaged)
	case err != nil:
		return 0, err
	case id == "" && next.IsZero():
		return idlePoll, nil
	case id == "":
		return min(next.Sub(now), idlePoll), nil
	}
	if w.disabled() != "" {
		return 0, w.bury(ctx, nil)
	}
	if m.Transition == Trigger || m.Transition == Update {
		if until, ok := w.d.silenced(&m.Incident); ok {
			return 0, w.d.store.hold(ctx, id, until)
		}
		if until, ok := w.hours.until(now, m.Incident.Severity); ok {
			return 0, w.d.store.hold(ctx, id, Wall(until))
		}
	}
	if d := w.bucket.take(now); d > 0 {
		return d, nil
	}
	c, err := w.d.store.claim(ctx, id, Wall(now))
	if err != nil || c.Message == nil {
		return 0, err
	}
	c.Attempt, c.Repeat, c.Plain = Wall(now), c.attempts > 1, now.Before(w.plain)
	out := w.try(ctx, c.Message)
	w.settle(ctx, &c, out)
	if out.Verdict == Disable {
		return 0, w.bury(ctx, w.d.goneNotices(w, Wall(time.Now())))
	}
	return 0, nil
}

// try makes one attempt, and where the vendor refuses the form a second one at once.
func (w *worker) try(ctx context.Context, m *Message) Outcome {
	attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	start := time.Now()
	out, _ := w.attempt(attempt, w.client, *m)
	if out.Verdict == Degrade && !m.Plain {
		w.plain = start.Add(plainFor)
		m.Plain = true
		w.d.log.Warn("receiver refuses charts: they are left out for a day", "receiver", w.Name, "reason", out.Reason)
		out, _ = w.attempt(attempt, w.client, *m)
	}
	if out.Verdict == Degrade {
		out.Verdict = Reject
	}
	w.latency.UpdateDuration(start)
	return out
}

// settle writes the outcome down. It insists: an outcome that is forgotten is a message sent twice.
func (w *worker) settle(ctx context.Context, c *claimed, out Outcome) {
	now := time.Now()
	state, next := queued, Wall(now)
	switch out.Verdict {
	case OK:
		state = delivered
		if out.After > 0 {
			w.bucket.close(now.Add(out.After))
		}
	case Retry:
		limited := out.Limit > 0 && c.limited+1 >= out.Limit
		if limited || w.policy.over(now.Sub(c.created.Std()), c.attempts, c.Incident.Severity) {
			state = dead
			break
		}
		delay := w.policy.delay(c.attempts, jitter())
		if out.After > 0 {
			delay = out.After
			w.bucket.close(now.Add(delay))
		}
		next = Wall(now.Add(delay))
	default:
		state = dead
	}
	for ctx2 := context.WithoutCancel(ctx); ; {
		err := w.d.store.settle(ctx2, c.ID, state, next, out)
		if err == nil {
			break
		}
		w.d.log.Error("write down how a delivery went", "receiver", w.Name, "error", err)
		if !sleep(ctx, storeRetry, nil) {
			return // the row stays queued with its attempt counted: the next start repeats it and says so
		}
	}
	w.count(c.Message, c.attempts, state, out)
}

func (w *worker) count(m *Message, attempts int, state string, out Outcome) {
	log := w.d.log.With("receiver", w.Name, "incident", m.Incident.ID, "transition", m.Transition, "attempts", attempts)
	switch state {
	case delivered:
		w.sent.Inc()
		if attempts > 1 {
			log.Info("delivered after retries")
		}
	case queued:
		w.retried.Inc()
		if out.Status == 0 {
			w.repeats.Inc() // it may have arrived: the answer is what is missing
		}
		if attempts == 1 || attempts&(attempts-1) == 0 {
			log.Warn("delivery failed, will be retried", "reason", out.Reason)
		}
	case dead:
		w.buried.Inc()
		log.Error("delivery given up: see wharfwatch notify failed", "reason", out.Reason)
	}
	if out.Verdict == Disable {
		w.mu.Lock()
		w.gone = out.Reason
		w.mu.Unlock()
		w.d.log.Error("receiver disabled until the next start: it says that it is gone", "receiver", w.Name, "reason", out.Reason)
	}
}

func (w *worker) disabled() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

// bury gives up the queue of a receiver that is gone.
func (w *worker) bury(ctx context.Context, notices []Row) error {
	n, err := w.d.store.bury(ctx, w.Name, "receiver disabled: "+w.disabled(), notices)
	w.buried.Add(int(n))
	return err
}

// sleep waits; false means that ctx ended. changed ends the wait early.
func sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-t.C:
	}
	return true
}
