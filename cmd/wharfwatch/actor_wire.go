package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A message on a TCP connection of actors is the length of what follows and the length of the wished reply, 32 bits each and big
// endian, then that many bytes; the server discards them and answers with the wished number.
const actorHeader = 8

func (a *actor) message(c net.Conn) error {
	header := make([]byte, actorHeader, actorHeader+64<<10)
	body := max(a.bytes-actorHeader, 0)
	binary.BigEndian.PutUint32(header, uint32(body))
	binary.BigEndian.PutUint32(header[4:], uint32(a.reply))
	first := min(body, 64<<10)
	if _, err := c.Write(append(header, make([]byte, first)...)); err != nil { // small messages are one packet
		return err
	}
	if _, err := io.CopyN(c, zeros{}, int64(body-first)); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(a.reply))
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// askTime sends an NTP client packet (RFC 5905 7.3) from a new port and reads the answer.
func (a *actor) askTime(ctx context.Context) (net.Addr, error) {
	c, err := a.dial(ctx, "udp")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	packet := make([]byte, 48)
	packet[0] = 4<<3 | 3 // version 4, client
	if _, err := c.Write(packet); err != nil {
		return c.LocalAddr(), err
	}
	_, err = c.Read(packet)
	pause(ctx, a.open)
	return c.LocalAddr(), err
}

func (a *actor) get(ctx context.Context) (net.Addr, error) {
	return a.request(ctx, http.MethodGet, "/health", nil)
}

func (a *actor) post(ctx context.Context) (net.Addr, error) {
	return a.request(ctx, http.MethodPost, "/push", bytes.NewReader(make([]byte, a.bytes)))
}

// request is one HTTP exchange on a connection of its own.
func (a *actor) request(ctx context.Context, method, path string, body io.Reader) (net.Addr, error) {
	var local net.Addr
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := a.dial(ctx, network)
		if err == nil {
			local = c.LocalAddr()
		}
		return c, err
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.to+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return local, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return local, err
}

// serve answers on all addresses until ctx ends. It prints a line for each when it listens.
func (a *actor) serve(ctx context.Context, addrs map[string][]string) error {
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default: // the first one counts
		}
	}
	var config net.ListenConfig
	for _, kind := range []string{"tcp", "udp", "ntp", "http"} {
		for _, addr := range addrs[kind] {
			var close func() error
			var at net.Addr
			switch kind {
			case "tcp", "http":
				l, err := config.Listen(ctx, "tcp", addr)
				if err != nil {
					return fmt.Errorf("listen: %w", err)
				}
				close, at = l.Close, l.Addr()
				if kind == "http" {
					go func() { fail(http.Serve(l, http.HandlerFunc(a.answerHTTP))) }()
				} else {
					go func() { fail(accept(l)) }()
				}
			default:
				c, err := config.ListenPacket(ctx, "udp", addr)
				if err != nil {
					return fmt.Errorf("listen: %w", err)
				}
				close, at = c.Close, c.LocalAddr()
				go func() { fail(answerPackets(c, kind == "ntp")) }()
			}
			defer close()
			a.tell(map[string]any{"listening": kind + " " + at.String()})
		}
		delete(addrs, kind)
	}
	for kind := range addrs {
		return usage(fmt.Errorf("listen: %s is none of tcp, udp, ntp, http", kind))
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for answerMessage(c) == nil {
			}
		}()
	}
}

func answerMessage(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		return err
	}
	var header [actorHeader]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(header[:]))); err != nil {
		return err
	}
	_, err := io.CopyN(c, zeros{}, int64(binary.BigEndian.Uint32(header[4:])))
	return err
}

// answerPackets sends every datagram back, as an NTP server's where asked.
func answerPackets(c net.PacketConn, ntp bool) error {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		if ntp && n >= 48 {
			b[0], b[1] = 4<<3|4, 2 // version 4, server, stratum 2
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

func (a *actor) answerHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "ok\n")
}
