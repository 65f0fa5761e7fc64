package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds of what a program may take to do what it is told.
const (
	stopTimeout = 10 * time.Second
	logTail     = 2 << 10 // bytes of a log that an error quotes
)

// Program is a process that keeps running until it is told to end. The fields
// are set before Start.
type Program struct {
	Name   string
	Path   string
	Args   []string
	Env    []string // besides our own
	Log    string   // file that gets what it prints; it grows with each start
	User   *syscall.Credential
	Ending syscall.Signal // what makes it stop in good order; 0 is SIGTERM

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	wanted  bool // it should run
	stopped error
}

// Start runs the program in a process group of its own, so that a Ctrl-C in the
// terminal is ours to hand on, and so that it dies with us.
func (p *Program) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: p.User}
	if p.User != nil {
		cmd.Dir = "/"
		cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
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

// PID is the running process's, 0 before the first Start.
func (p *Program) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Alone says how the program ended if nobody told it to, or nil.
func (p *Program) Alone() error {
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
	return fmt.Errorf("%s ended by itself, %s:\n%s", p.Name, how, Tail(p.Log))
}

// Kill ends the program at once, as a power cut does, and waits for it.
func (p *Program) Kill() { p.end(syscall.SIGKILL, stopTimeout) }

// Abort ends PostgreSQL as `pg_ctl stop -m immediate` does: every session at once,
// nothing written that was not, so that the next start recovers. It waits, and
// kills a server that does not end.
func (p *Program) Abort() {
	if !p.end(syscall.SIGQUIT, stopTimeout) {
		p.Kill()
	}
}

// Stop asks the program to end, waits, and kills it if it does not.
func (p *Program) Stop() {
	ending := p.Ending
	if ending == 0 {
		ending = syscall.SIGTERM
	}
	if !p.end(ending, stopTimeout) {
		p.Kill()
	}
}

func (p *Program) end(s syscall.Signal, patience time.Duration) bool {
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

// Tail is the end of a log, for an error.
func Tail(path string) string {
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

// ExitStatus is the status that a program ended with, or -1.
func ExitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err == nil {
		return 0
	}
	return -1
}
