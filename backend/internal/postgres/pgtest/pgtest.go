// Package pgtest gives tests a database of their own.
//
// It knows how to start a throwaway PostgreSQL from the machine's own binaries,
// once per test binary, with full durability, and how to leave nothing behind
// however the test binary ends. It gives New, the URL of a fresh, migrated
// database that is dropped after the test. It needs the server's binaries (as
// root it runs them as the user postgres), or TEST_DATABASE_URL with the right
// to create databases.
//
// # Why
//
// The server is the child of a small shell that reads from a pipe whose other
// end only the test binary holds. When the binary ends, in whatever way, kill -9
// included, the pipe closes, and the shell stops the server and removes its
// files. Nothing of that depends on a test's cleanup being run.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
)

// server is what all tests of a binary share.
type server struct {
	url      string // of its maintenance database
	dir      string // "": not ours
	template string // name of the migrated database that tests get copies of
	made     atomic.Int64
	pipe     *os.File // closes when this process ends
	err      error
}

// once starts the server when the first test asks.
var once = sync.OnceValue(func() *server {
	s := &server{url: os.Getenv("TEST_DATABASE_URL"), template: fmt.Sprintf("pgtest_%d_template", os.Getpid())}
	if s.url == "" {
		s.err = s.start()
	}
	if s.err == nil {
		s.err = s.makeTemplate()
	}
	return s
})

// New returns the URL of a fresh database with all migrations, dropped when the
// test ends.
func New(t testing.TB) string {
	t.Helper()
	return create(t, `TEMPLATE "`+once().template+`"`)
}

// Empty returns the URL of a fresh database without any table.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, "")
}

func create(t testing.TB, from string) string {
	t.Helper()
	s := once()
	require.NoError(t, s.err, "no PostgreSQL for tests: set TEST_DATABASE_URL, or install the server's binaries")
	name := fmt.Sprintf("pgtest_%d_%d", os.Getpid(), s.made.Add(1))
	require.NoError(t, s.exec(fmt.Sprintf(`CREATE DATABASE "%s" %s`, name, from)))
	t.Cleanup(func() {
		require.NoError(t, s.exec(fmt.Sprintf(`DROP DATABASE IF EXISTS "%s" WITH (FORCE)`, name)))
	})
	return s.database(name)
}

// Dir is the throwaway server's data directory, "" when the server is not ours.
func Dir() string { return once().dir }

func (s *server) makeTemplate() error {
	if err := s.exec(fmt.Sprintf(`CREATE DATABASE "%s"`, s.template)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return postgres.Migrate(ctx, s.database(s.template))
}

// database is the URL of another database of the same server.
func (s *server) database(name string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		return s.url
	}
	u.Path = "/" + name
	return u.String()
}

// exec runs one statement in the maintenance database. Copying a template
// excludes other copies for a moment: it is tried again.
func (s *server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		var conn *pgx.Conn
		if conn, err = pgx.Connect(ctx, s.url); err != nil {
			return fmt.Errorf("connect for %q: %w", sql, err)
		}
		_, err = conn.Exec(ctx, sql)
		_ = conn.Close(ctx)
		if err == nil || !strings.Contains(err.Error(), "being accessed by other users") {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%q: %w", sql, err)
	}
	return nil
}

// run is the shell's program: $1 is the directory. It outlives a terminal's
// interrupt, so that it can clean up after one.
const run = `
trap '' INT HUP TERM
postgres -D "$1/data" -k "$1" -c listen_addresses= -c logging_collector=off >"$1/log" 2>&1 </dev/null 3<&- &
pid=$!
cat <&3 >/dev/null
kill -QUIT $pid 2>/dev/null
wait $pid 2>/dev/null
rm -rf "$1"
`

// start makes a cluster and starts its server.
func (s *server) start() error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "pgtest-"); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	as, err := unprivileged(s.dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	env := append(os.Environ(), "PATH="+bin+":/usr/bin:/bin", "HOME="+s.dir)
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.Env, initdb.SysProcAttr = s.dir, env, as
	if out, err := initdb.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(s.dir))
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer read.Close()
	s.pipe = write
	shell := exec.Command("/bin/sh", "-c", run, "pgtest", s.dir)
	shell.Dir, shell.Env, shell.SysProcAttr, shell.ExtraFiles = s.dir, env, as, []*os.File{read}
	shell.SysProcAttr.Setpgid = true
	if err := shell.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.url = "postgres:///postgres?user=postgres&host=" + url.QueryEscape(s.dir)
	return await(s.url, s.dir)
}

func await(url, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("PostgreSQL did not come up: %w: %s", err, log)
		case <-tick.C:
		}
	}
}

// binaries is the folder of the newest server's programs.
func binaries() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", fmt.Errorf("initdb: not in PATH and not in /usr/lib/postgresql: install postgresql")
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// unprivileged gives the directory to a user that the server agrees to run as:
// it refuses root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of postgres: %w", err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
