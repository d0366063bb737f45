package state

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/go-cmp/cmp"
)

// TestMain is also the program that the kill tests kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STATE_TEST_APPEND"); dir != "" {
		appendForEver(dir)
	}
	if dir := os.Getenv("STATE_TEST_HOLD"); dir != "" {
		if _, err := Open(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("open")
		select {}
	}
	os.Exit(m.Run())
}

func open1(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

const table = "CREATE TABLE n (v INTEGER PRIMARY KEY)"

func insert(v int) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO n VALUES (?)", v)
		return err
	}
}

func values(t *testing.T, db *DB) (out []int) {
	t.Helper()
	rows, err := db.Read().Query("SELECT v FROM n ORDER BY v")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v int
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	db := open1(t, dir)
	if err := db.Set(t.Context(), "a.b", "c"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, %v", st.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 3 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if st, err := e.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), st.Mode(), err)
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
		for name, pool := range map[string]*sql.DB{"write": db.write, "read": db.read} {
			var got string
			if err := pool.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s is %q, %v", name, pragma, got, err)
			}
		}
	}
	if _, err := db.Read().Exec("DELETE FROM meta"); err == nil {
		t.Error("the read pool writes")
	}
}

func TestOddDirectoryNames(t *testing.T) {
	for _, name := range []string{"with space", "with?question", "with#hash", "100%41"} {
		dir := filepath.Join(t.TempDir(), name)
		db, err := Open(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		db.Close()
		if _, err := os.Stat(filepath.Join(dir, File)); err != nil {
			t.Error(err)
		}
	}
}

func TestWriteUndoesOnlyWhatFailed(t *testing.T) {
	db := open1(t, t.TempDir())
	if err := db.Migrate("test", table); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	begun, release := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	wg.Go(func() { // holds the writer, so that the others meet in one batch
		if err := db.Write(t.Context(), func(tx *sql.Tx) error { close(begun); <-release; return insert(0)(tx) }); err != nil {
			t.Error(err)
		}
	})
	<-begun
	before := db.commits.Load()
	for i := 1; i <= 20; i++ {
		wg.Go(func() {
			err := db.Write(t.Context(), func(tx *sql.Tx) error {
				if err := insert(i)(tx); err != nil {
					return err
				}
				if i%3 == 0 {
					return boom
				}
				return nil
			})
			if want := i%3 == 0; errors.Is(err, boom) != want || (err != nil) != want {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	for len(db.queue) < 20 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	want := []int{0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20}
	if d := cmp.Diff(want, values(t, db)); d != "" {
		t.Error(d)
	}
	if n := db.commits.Load() - before; n != 2 {
		t.Errorf("%d commits for 1 and 20 writers, want 2", n)
	}
}

func TestWriteGivesUpWhileWaiting(t *testing.T) {
	db := open1(t, t.TempDir())
	if err := db.Migrate("test", table); err != nil {
		t.Fatal(err)
	}
	begun, release, first := make(chan bool), make(chan bool), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		first <- db.Write(ctx, func(tx *sql.Tx) error { close(begun); <-release; return insert(1)(tx) })
	}()
	<-begun
	second := make(chan error)
	go func() { second <- db.Write(ctx, insert(2)) }()
	for len(db.queue) < 1 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("a waiting write: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("a write that had begun: %v", err)
	}
	if err := db.Write(t.Context(), insert(3)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{1, 3}, values(t, db)); d != "" {
		t.Error(d)
	}
}

func TestFullDiskLosesNothingSilently(t *testing.T) {
	db := open1(t, t.TempDir())
	if err := db.Migrate("test", "CREATE TABLE n (v INTEGER PRIMARY KEY, pad BLOB)"); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := db.write.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := db.write.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+8)); err != nil {
		t.Fatal(err)
	}
	kept := []int{}
	for i := range 40 {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec("INSERT INTO n VALUES (?, zeroblob(3000))", i)
			return err
		})
		if err == nil {
			kept = append(kept, i)
		}
	}
	if len(kept) == 0 || len(kept) == 40 {
		t.Fatalf("%d of 40 kept: the disk did not fill up", len(kept))
	}
	if d := cmp.Diff(kept, values(t, db)); d != "" {
		t.Error(d)
	}
	if _, err := db.write.Exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec("INSERT INTO n VALUES (99, 'x')"); return err }); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
}

func TestCloseTruncatesAndRefuses(t *testing.T) {
	dir := t.TempDir()
	db := open1(t, dir)
	if err := db.Set(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := db.WALBytes(); n != 0 {
		t.Errorf("%d bytes of log left", n)
	}
	if err := db.Set(t.Context(), "a", "2"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if v, ok, err := open1(t, dir).Get("a"); v != "1" || !ok || err != nil {
		t.Error(v, ok, err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STATE_TEST_HOLD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatal(line)
	}
	_, err = Open(dir)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != cmd.Process.Pid {
		t.Errorf("while process %d has it: %v", cmd.Process.Pid, err)
	} else if !strings.Contains(err.Error(), "control socket") {
		t.Error(err)
	}
	if ro, err := OpenReadOnly(dir); err != nil {
		t.Errorf("reading beside the owner: %v", err)
	} else {
		ro.Close()
	}
	if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
		t.Fatal(err)
	}
	open1(t, dir)
}

func ignoreExit(err error) error {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return nil
	}
	return err
}

func TestOpenReadOnly(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenReadOnly(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
	db := open1(t, dir)
	if err := db.Set(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"open", "closed"} {
		ro, err := OpenReadOnly(dir)
		if err != nil {
			t.Fatal(when, err)
		}
		if v, _, err := ro.Get("a"); v != "1" || err != nil {
			t.Error(when, v, err)
		}
		if err := ro.Set(t.Context(), "a", "2"); !errors.Is(err, ErrClosed) {
			t.Error(when, err)
		}
		if err := ro.Close(); err != nil {
			t.Error(when, err)
		}
		db.Close()
	}
}

func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	steps := []string{table, "ALTER TABLE n ADD COLUMN a TEXT; ALTER TABLE n ADD COLUMN b TEXT", "ALTER TABLE n ADD COLUMN c TEXT", "ALTER TABLE n ADD COLUMN d TEXT"}
	backups := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "backup-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for n := 1; n <= len(steps); n++ {
		db := open1(t, dir)
		for range 2 {
			if err := db.Migrate("test", steps[:n]...); err != nil {
				t.Fatal(err)
			}
		}
		if n == 1 {
			if err := db.Write(t.Context(), insert(7)); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff([]int{7}, values(t, db)); d != "" {
			t.Error(d)
		}
		if got, want := len(backups()), min(n-1, 2); got != want {
			t.Errorf("version %d: %d backups, want %d", n, got, want)
		}
		db.Close()
	}
	old, err := sql.Open("sqlite", "file:"+backups()[1]+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	var columns int
	if err := old.QueryRow("SELECT count(*) FROM pragma_table_info('n')").Scan(&columns); err != nil || columns != 4 {
		t.Errorf("the newest backup has %d columns, want those of version 3; %v", columns, err)
	}

	db := open1(t, dir)
	err = db.Migrate("test", steps[:2]...)
	var newer *NewerError
	if !errors.As(err, &newer) || *newer != (NewerError{"test", 4, 2}) || !strings.Contains(err.Error(), "version 4") || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
	if err := db.Migrate("test", append(steps, "CREATE TABLE half (x); CREATE TABLE n (v)")...); err == nil {
		t.Error("a step that fails is no error")
	}
	var half int
	if err := db.Read().QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").Scan(&half); err != nil || half != 0 {
		t.Errorf("half a step is left: %d, %v", half, err)
	}
}

func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	db := open1(t, dir)
	if _, ok, err := db.LastSnapshotTime(); ok || err != nil {
		t.Error(ok, err)
	}
	put := func(s ...Snapshot) {
		t.Helper()
		if err := db.SaveSnapshots(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	put(Snapshot{"beacon", "b", 10, []byte("old")}, Snapshot{"beacon", "", 10, []byte("global")}, Snapshot{"egress-spike", "a", 10, []byte("x")})
	put(Snapshot{"beacon", "b", 20, []byte("new")}, Snapshot{"egress-spike", "a", 21, nil}, Snapshot{"beacon", "torn", 20, []byte("fine")}, Snapshot{"beacon", "refused", 20, []byte{9}})
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE baseline_snapshot SET blob = 'fIne' WHERE key = 'torn'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = open1(t, dir)
	var got []Snapshot
	skipped, err := db.LoadSnapshots(func(s Snapshot) error {
		if s.Key == "refused" {
			return errors.New("unknown version 9")
		}
		got = append(got, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Snapshot{{"beacon", "", 10, []byte("global")}, {"beacon", "b", 20, []byte("new")}}, got); d != "" {
		t.Error(d)
	}
	var why []string
	for _, s := range skipped {
		why = append(why, s.Key+": "+strings.SplitN(s.Reason.Error(), ":", 2)[0])
	}
	if d := cmp.Diff([]string{"refused: unknown version 9", "torn: torn"}, why); d != "" {
		t.Error(d)
	}
	if last, ok, err := db.LastSnapshotTime(); last != 21 || !ok || err != nil {
		t.Error(last, ok, err)
	}
	if err := db.MarkSnapshot(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	if last, _, _ := db.LastSnapshotTime(); last != 30 {
		t.Error(last)
	}
}

func TestMetrics(t *testing.T) {
	db := open1(t, t.TempDir())
	set := metrics.NewSet()
	db.Metrics(set)
	if err := db.Set(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	set.WritePrometheus(&b)
	for _, want := range []string{"wharfwatch_state_commits_total 2\n", "wharfwatch_state_commit_seconds_count 1\n", "wharfwatch_state_wal_bytes"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// appendForEver adds rows from several goroutines and prints each one when Write has returned.
func appendForEver(dir string) {
	db, err := Open(dir)
	if err == nil {
		err = db.Migrate("test", "CREATE TABLE n (v INTEGER PRIMARY KEY, twin INTEGER)", "CREATE TABLE twin (v INTEGER PRIMARY KEY)")
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	var next sync.Mutex
	var v int
	if err := db.Read().QueryRow("SELECT coalesce(max(v), 0) FROM n").Scan(&v); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for range 8 {
		go func() {
			for {
				next.Lock()
				v++
				mine := v
				next.Unlock()
				err := db.Write(context.Background(), func(tx *sql.Tx) error {
					_, err := tx.Exec("INSERT INTO n VALUES (?, ?)", mine, mine)
					if err == nil {
						_, err = tx.Exec("INSERT INTO twin VALUES (?)", mine)
					}
					return err
				})
				if err != nil {
					fmt.Println("error:", err)
					os.Exit(1)
				}
				os.Stdout.WriteString(strconv.Itoa(mine) + "\n") // one system call: whole or not at all
			}
		}()
	}
	select {}
}

// A process killed 20 times while it appends: every row it acknowledged is there, none is there by half.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[int]bool{}
	for round := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STATE_TEST_APPEND="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		enough := 20 + rand.IntN(200)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			v, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(lines.Text())
			}
			acknowledged[v] = true
			if n == enough {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := ignoreExit(cmd.Wait()); err != nil {
			t.Fatal(err)
		}
		ro, err := OpenReadOnly(dir)
		if err != nil {
			t.Fatal(err)
		}
		have := map[int]bool{}
		for _, v := range values(t, ro) {
			have[v] = true
		}
		var half int
		if err := ro.Read().QueryRow("SELECT (SELECT count(*) FROM n) - (SELECT count(*) FROM twin)").Scan(&half); err != nil || half != 0 {
			t.Errorf("round %d: %d rows without their twin, %v", round, half, err)
		}
		ro.Close()
		for v := range acknowledged {
			if !have[v] {
				t.Fatalf("round %d: row %d was acknowledged and is gone", round, v)
			}
		}
	}
	t.Logf("20 kills, %d rows acknowledged, all there", len(acknowledged))
}
