package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// actor plays workloads in tests and in demo: clients with a rhythm, and the servers they talk to. Its image is FROM scratch with
// this binary, so that a scene needs nothing from outside.
type actor struct {
	to            string
	period        time.Duration
	jitter        float64
	seed          uint64
	count         int // of beats, 0 without end
	bytes, reply  int
	port          int // of the source, 0 for any
	delay, linger time.Duration
	open          time.Duration // that a connection stays open when all is said

	random *rand.Rand
	mu     sync.Mutex // protects out
	out    io.Writer
}

// newActorCommand is hidden: it is for scenes, not for people.
func newActorCommand(g *globals) *cobra.Command {
	a := &actor{out: g.stdout}
	root := &cobra.Command{Use: "actor", Short: "play a workload (for tests and demo)", Hidden: true, Args: cobra.NoArgs}
	add := func(use, short string, args cobra.PositionalArgs, body func(ctx context.Context, args []string) error) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: args}
		c.RunE = action(func(ctx context.Context, args []string) error {
			// As pid 1 of a container only handled signals end it.
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			a.random = rand.New(rand.NewPCG(a.seed, a.seed))
			err := body(ctx, args)
			if ctx.Err() != nil {
				return nil
			}
			return err
		})
		root.AddCommand(c)
		return c
	}
	beats := func(c *cobra.Command, period time.Duration, bytes, reply int) *cobra.Command {
		f := c.Flags()
		f.StringVar(&a.to, "to", "", "address and port of the server")
		f.DurationVar(&a.period, "period", period, "time between two beats")
		f.Float64Var(&a.jitter, "jitter", 0, "each period is drawn evenly from this share below to this share above")
		f.Uint64Var(&a.seed, "seed", 1, "of the random numbers")
		f.IntVar(&a.count, "count", 0, "of beats; 0 goes on for ever")
		f.IntVar(&a.bytes, "bytes", bytes, "to send in a beat")
		f.IntVar(&a.reply, "reply", reply, "to ask back in a beat")
		f.DurationVar(&a.delay, "delay", 0, "before the first beat")
		f.IntVar(&a.port, "source-port", 0, "0 takes any")
		f.DurationVar(&a.open, "open", 0, "stay connected when all is said")
		f.DurationVar(&a.linger, "linger", 0, "stay after the last beat")
		_ = c.MarkFlagRequired("to")
		return c
	}
	add("sleep [DURATION]", "do nothing, for ever or for a while", cobra.MaximumNArgs(1), a.sleep)
	add("listen tcp|udp|ntp|http ADDR…", "answer on addresses", cobra.MinimumNArgs(2), func(ctx context.Context, args []string) error {
		return a.serve(ctx, map[string][]string{args[0]: args[1:]})
	})
	beats(add("beacon", "a TCP connection in each beat", cobra.NoArgs, a.run(a.exchange)), 60*time.Second, 200, 400)
	beats(add("ntp", "an NTP question in each beat", cobra.NoArgs, a.run(a.askTime)), 64*time.Second, 48, 48)
	beats(add("http-health", "GET /health in each beat", cobra.NoArgs, a.run(a.get)), 10*time.Second, 0, 0)
	beats(add("push", "POST /push in each beat", cobra.NoArgs, a.run(a.post)), 15*time.Second, 2000, 0)
	beats(add("upload", "one large TCP upload", cobra.NoArgs, a.upload), 0, 100<<20, 1)
	beats(add("hold", "one TCP connection for ever, a message in each beat", cobra.NoArgs, a.hold), 15*time.Second, 100, 100)
	poisson := beats(add("poisson", "TCP connections at random times", cobra.NoArgs, a.run(a.exchange)), 0, 500, 2000)
	mean := poisson.Flags().Duration("mean", 5*time.Second, "between two connections")
	poisson.PreRun = func(*cobra.Command, []string) { a.period = -*mean } // see wait
	listeners := map[string]*[]string{}
	serve := add("serve", "several servers at once", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		all := map[string][]string{}
		for kind, addrs := range listeners {
			all[kind] = *addrs
		}
		return a.serve(ctx, all)
	})
	for _, kind := range []string{"tcp", "udp", "ntp", "http"} {
		listeners[kind] = serve.Flags().StringArray(kind, nil, "listen on ADDR for "+kind+"; may be repeated")
	}
	return root
}

// tell prints one JSON line, so that a scene knows what really happened.
func (a *actor) tell(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.out, "%s\n", line)
}

func (a *actor) sleep(ctx context.Context, args []string) error {
	if len(args) == 0 {
		<-ctx.Done()
		return nil
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return usage(err)
	}
	pause(ctx, d)
	return nil
}

// run makes a beat at each of the times, and prints when and from where.
func (a *actor) run(beat func(ctx context.Context) (net.Addr, error)) func(context.Context, []string) error {
	return func(ctx context.Context, _ []string) error {
		pause(ctx, a.delay)
		next := time.Now()
		for n := 0; (a.count == 0 || n < a.count) && ctx.Err() == nil; n++ {
			began := time.Now()
			limited, cancel := context.WithTimeout(ctx, 10*time.Second)
			local, err := beat(limited)
			cancel()
			fields := map[string]any{"time": began.UTC().Format(time.RFC3339Nano), "to": a.to, "beat": n}
			if local != nil {
				fields["from"] = local.String()
			}
			if err != nil {
				fields["error"] = err.Error()
			}
			a.tell(fields)
			next = next.Add(a.wait()) // from beat to beat, however long one takes
			if a.count == 0 || n+1 < a.count {
				pause(ctx, time.Until(next))
			}
		}
		pause(ctx, a.linger)
		return nil
	}
}

// wait draws the time to the next beat: even within the jitter, or exponential for a negative period, which is the mean.
func (a *actor) wait() time.Duration {
	if a.period < 0 {
		return time.Duration(a.random.ExpFloat64() * float64(-a.period))
	}
	return time.Duration(float64(a.period) * (1 + a.jitter*(2*a.random.Float64()-1)))
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// dial connects, with ctx's deadline on everything that follows.
func (a *actor) dial(ctx context.Context, network string) (net.Conn, error) {
	var d net.Dialer
	if a.port != 0 {
		d.LocalAddr, d.Control = a.source(network), reuseAddress
	}
	c, err := d.DialContext(ctx, network, a.to)
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok && a.port != 0 {
		err = t.SetLinger(0) // a reset, so that the port is free for the next beat
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = errors.Join(err, c.SetDeadline(deadline))
	}
	return c, err
}

func (a *actor) source(network string) net.Addr {
	if network == "udp" {
		return &net.UDPAddr{Port: a.port}
	}
	return &net.TCPAddr{Port: a.port}
}

// reuseAddress lets a beat use the port of the one before.
func reuseAddress(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) }), err)
}

// exchange opens a connection, sends bytes, reads the reply and closes.
func (a *actor) exchange(ctx context.Context) (net.Addr, error) {
	c, err := a.dial(ctx, "tcp")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	err = a.message(c)
	pause(ctx, a.open)
	return c.LocalAddr(), err
}

// hold keeps one connection and sends a message in each beat; a lost connection is opened again.
func (a *actor) hold(ctx context.Context, _ []string) error {
	pause(ctx, a.delay)
	for n := 0; (a.count == 0 || n < a.count) && ctx.Err() == nil; {
		c, err := a.dial(ctx, "tcp")
		if err != nil {
			a.tell(map[string]any{"time": time.Now().UTC().Format(time.RFC3339Nano), "to": a.to, "error": err.Error()})
			pause(ctx, time.Second)
			continue
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		for err == nil && (a.count == 0 || n < a.count) {
			a.tell(map[string]any{"time": time.Now().UTC().Format(time.RFC3339Nano), "to": a.to, "from": c.LocalAddr().String(), "beat": n})
			err = errors.Join(c.SetDeadline(time.Now().Add(10*time.Second)), a.message(c))
			n++
			pause(ctx, a.wait())
		}
		stop()
		c.Close()
	}
	return nil
}

func (a *actor) upload(ctx context.Context, _ []string) error {
	pause(ctx, a.delay)
	c, err := a.dial(ctx, "tcp")
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	defer c.Close()
	began := time.Now()
	if err := a.message(c); err != nil {
		return fmt.Errorf("upload to %s: %w", a.to, err)
	}
	a.tell(map[string]any{
		"time": began.UTC().Format(time.RFC3339Nano), "to": a.to, "from": c.LocalAddr().String(),
		"bytes": strconv.Itoa(a.bytes), "seconds": time.Since(began).Seconds(),
	})
	pause(ctx, a.linger)
	return nil
}
