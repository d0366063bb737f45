package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Socket is the name of the control socket in the data directory.
const Socket = "control.sock"

// sunPath is what the kernel takes in a socket address, the final zero included (unix(7): 108 on Linux).
const sunPath = 108

// listenControl binds the control socket for this user only. A socket file that nobody answers on is a leftover and replaced.
func listenControl(path string) (net.Listener, error) {
	if conn, err := Dial(context.Background(), filepath.Dir(path)); err == nil {
		conn.Close()
		return nil, fmt.Errorf("control socket %s: another monitor answers on it", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("control socket %s: something else has that name", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: remove the leftover: %w", err)
		}
	}
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)                     // the short name is gone by then; the file is removed below
	if err := os.Chmod(path, 0o600); err != nil { // the directory is 0700: nobody else gets here before this line
		l.Close()
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return &controlListener{l, path}, nil
}

// controlListener removes its file when it closes.
type controlListener struct {
	*net.UnixListener
	path string
}

func (l *controlListener) Close() error {
	err := l.UnixListener.Close()
	if !errors.Is(err, net.ErrClosed) {
		os.Remove(l.path)
	}
	return err
}

// Dial connects to the control socket of the monitor that runs on a data directory. errors.Is(err, fs.ErrNotExist) or
// syscall.ECONNREFUSED mean that none does.
func Dial(ctx context.Context, dataDir string) (net.Conn, error) {
	short, done, err := shorten(filepath.Join(dataDir, Socket))
	if err != nil {
		return nil, err
	}
	defer done()
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(ctx, "unix", short)
}

// shorten gives a path that fits into a socket address: a long one is reached through an open handle of its directory.
func shorten(path string) (string, func(), error) {
	if len(path) < sunPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}
