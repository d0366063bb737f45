package alerts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// dialer connects as newClient does: link-local and metadata addresses are refused after names are resolved.
func dialer(linkLocal bool) *net.Dialer {
	d := &net.Dialer{Timeout: connectTimeout}
	if !linkLocal {
		d.Control = guard
	}
	return d
}

// errNotLoopback says that something would go over a network in the clear.
var errNotLoopback = errors.New("without TLS only loopback addresses are taken: what is sent could be read on its way")

// dialLoopback is for receivers without TLS: it refuses every address that leaves this machine.
func dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dialer(true).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", address, errNotLoopback)
	}
	return conn, nil
}

// checkHostPort reports what is no HOST:PORT.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return errors.New("must be HOST:PORT")
	}
	if a, err := netip.ParseAddr(host); err == nil && forbidden(a) {
		return errForbidden
	}
	return nil
}
