package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// serverReady is how long a new server may take to answer.
const serverReady = 60 * time.Second

// postgresBinaries finds the folder of the machine's newest PostgreSQL: Debian's,
// or the one that the search path leads to.
func postgresBinaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", fmt.Errorf("find PostgreSQL: %w", err)
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if path, err := exec.LookPath("initdb"); err == nil {
		// A link to one program does not bring the others along.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, path)
		}
	}
	for _, initdb := range found {
		if dir := filepath.Dir(initdb); complete(dir) {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL is missing: install it (Debian: apt-get install postgresql) or set DATABASE_URL")
}

// complete reports whether a folder has all that the demo runs.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres", "pg_isready"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// version is the N of /usr/lib/postgresql/N/bin/initdb.
func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}

// serverUser is who runs PostgreSQL: ourselves, or the user postgres when we are
// root, because it refuses to run as root.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user for it: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// StartPostgres makes a cluster in dir, which must not exist and which only its
// server can enter, and starts it on a socket there: no port, no password,
// nothing left elsewhere. Every folder above dir must let its user through. It
// returns the server and its DATABASE_URL.
func StartPostgres(ctx context.Context, dir, log string) (*Program, string, error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, "", err
	}
	who, err := serverUser()
	if err != nil {
		return nil, "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make a database: %w", err)
	}
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, "", fmt.Errorf("make a database: %w", err)
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"-D", data, "-U", "swap", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	initdb.Dir = "/"
	initdb.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: who}
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("make a database: initdb: %w: %s", err, said)
	}
	p := &Program{
		Name: "postgres", Path: filepath.Join(bin, "postgres"), Log: log, User: who, Ending: syscall.SIGINT,
		Args: []string{"-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200"},
	}
	if err := p.Start(); err != nil {
		return nil, "", err
	}
	if err := waitPostgres(ctx, p, filepath.Join(bin, "pg_isready"), dir); err != nil {
		p.Stop()
		return nil, "", err
	}
	return p, "postgres://swap@/postgres?host=" + dir, nil
}

func waitPostgres(ctx context.Context, p *Program, isReady, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, serverReady)
	defer cancel()
	return Until(ctx, 100*time.Millisecond, "the database does not answer", func() (bool, error) {
		if err := p.Alone(); err != nil {
			return false, err
		}
		return exec.CommandContext(ctx, isReady, "-q", "-h", socket, "-U", "swap", "-d", "postgres").Run() == nil, nil
	})
}
