package process

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const toolTimeout = 60 * time.Second

// Tools runs programs of one folder that end by themselves.
type Tools struct {
	Dir string
	Env []string // besides our own
}

// Path is where a program of the folder stands.
func (t Tools) Path(name string) string { return filepath.Join(t.Dir, name) }

// Run runs a program to its end and gives what it printed on standard output;
// the error holds what it complained of.
func (t Tools) Run(ctx context.Context, input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.Path(name), args...)
	cmd.Env = append(os.Environ(), t.Env...)
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		// What it was told stays out: an argument may be a key.
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args[:min(2, len(args))], " "), err,
			strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Until asks again and again until it is so. The error of a wait that ended
// says what was waited for.
func Until(ctx context.Context, every time.Duration, what string, is func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		ok, err := is()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-ticker.C:
		}
	}
}

// Ports that FreeAddress gives lie below those that systems take for connections
// that go out (on Linux from 32768): one of these could take the port before its
// program listens.
const lowestPort, ports = 20_000, 12_768

// FreeAddress finds a port of a host that nobody listens on.
func FreeAddress(host string) (string, error) {
	var last error
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(lowestPort+rand.IntN(ports))))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find a free port: %w", last)
}
