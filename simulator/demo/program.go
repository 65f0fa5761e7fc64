package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds of what a program may take to do what it is told.
const (
	toolTimeout = 60 * time.Second
	stopTimeout = 10 * time.Second
	logTail     = 2 << 10 // bytes of a log that an error quotes
)

// program is a process that the demo keeps.
type program struct {
	name   string
	path   string
	args   []string
	env    []string
	log    string // file
	user   *syscall.Credential
	ending syscall.Signal // what makes it stop in good order

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	wanted  bool // it should run
	stopped error
}

// start runs the program in a process group of its own, so that a Ctrl-C in the
// terminal is ours to hand on, and so that it dies with us.
func (p *program) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: p.user}
	if p.user != nil {
		cmd.Dir = "/"
		cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.done, p.wanted = cmd, make(chan struct{}), true
	done := p.done
	go func() {
		defer close(done)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stopped = err
	}()
	return nil
}

// ended is closed when the running process has ended.
func (p *program) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// alone says how the program ended if nobody told it to.
func (p *program) alone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
	default:
		return nil
	}
	if !p.wanted {
		return nil
	}
	how := "with status 0"
	if p.stopped != nil {
		how = p.stopped.Error()
	}
	return fmt.Errorf("%s ended by itself, %s:\n%s", p.name, how, tail(p.log))
}

// kill ends the program at once, as a power cut does, and waits for it.
func (p *program) kill() { p.end(syscall.SIGKILL, stopTimeout) }

// stop asks the program to end and kills it if it does not.
func (p *program) stop() {
	if !p.end(p.ending, stopTimeout) {
		p.kill()
	}
}

func (p *program) end(s syscall.Signal, patience time.Duration) bool {
	p.mu.Lock()
	p.wanted = false
	if p.cmd == nil {
		p.mu.Unlock()
		return true
	}
	// The group may be gone already: that is what is wanted.
	_ = syscall.Kill(-p.cmd.Process.Pid, s)
	done := p.done
	p.mu.Unlock()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		return false
	}
}

// tail is the end of a log, for an error.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		// A short file is read from its start.
		_, _ = f.Seek(max(0, size-logTail), io.SeekStart)
	}
	b, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// tools runs programs that end by themselves.
type tools struct {
	dir string // of the binaries
	env []string
}

func (t tools) path(name string) string { return filepath.Join(t.dir, name) }

// run runs a program to its end and gives what it printed.
func (t tools) run(ctx context.Context, input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.path(name), args...)
	cmd.Env = append(os.Environ(), t.env...)
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

// exitStatus is the status that a program ended with, or -1.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
