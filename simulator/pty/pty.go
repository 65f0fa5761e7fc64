// Package pty is a serial adapter without hardware: a pseudo-terminal whose far
// end a program opens by path, as it would open /dev/serial/by-path/….
//
// It knows terminals and symbolic links, no protocol and no baud rate. It gives
// a Port that reads with a precise time limit, loses what nobody reads, and can
// vanish and come back under another number, as a pulled plug does. It needs
// Linux.
package pty

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// ErrGone is the answer of a port that has vanished or is closed.
var ErrGone = errors.New("the port is gone")

// maxWait bounds one ReadFor, so that whoever wants to close the port waits no
// longer than that.
const maxWait = 50 * time.Millisecond

// releaseAfter is how long nothing may arrive before exclusive use of the
// terminal is given up. A real adapter forgets its exclusive user when that one
// dies; a pseudo-terminal that this package holds open would not, and the next
// user would find it busy.
const releaseAfter = time.Second

// Port is the board's end of a serial line.
type Port struct {
	mu     sync.RWMutex // held for writing only to vanish, return and close
	master *os.File     // nil while gone
	slave  *os.File
	// The descriptors are asked for once: os.File.Fd makes one blocking again.
	masterFD, slaveFD int
	link              string
	closed            bool

	heard sync.Mutex
	last  time.Time // when bytes last arrived
}

// Open makes a port in raw mode. If link is not empty, it is a symbolic link to
// the far end that follows the port through Vanish and Return, as the names of
// /dev/serial/by-path do.
func Open(link string) (*Port, error) {
	p := &Port{link: link, last: time.Now()}
	if err := p.open(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Port) open() error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	fail := func(err error) error {
		return errors.Join(err, master.Close(), slave.Close())
	}
	masterFD, slaveFD := int(master.Fd()), int(slave.Fd())
	if err := raw(slaveFD); err != nil {
		return fail(fmt.Errorf("set %s raw: %w", slave.Name(), err))
	}
	// A serial line never waits for its reader.
	if err := unix.SetNonblock(masterFD, true); err != nil {
		return fail(fmt.Errorf("set %s non-blocking: %w", master.Name(), err))
	}
	if p.link != "" {
		if err := relink(slave.Name(), p.link); err != nil {
			return fail(err)
		}
	}
	p.master, p.slave, p.masterFD, p.slaveFD = master, slave, masterFD, slaveFD
	return nil
}

func raw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// relink makes link point to target in one step.
func relink(target, link string) error {
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("link %s: %w", link, err)
	}
	if err := os.Symlink(target, fresh); err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	if err := os.Rename(fresh, link); err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	return nil
}

// Path is what a program opens: the link if there is one, else the terminal.
// It is "" while the port is gone and has no link.
func (p *Port) Path() string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.link != "" {
		return p.link
	}
	if p.slave == nil {
		return ""
	}
	return p.slave.Name()
}

// ReadFor reads what has arrived, waiting up to limit (and no longer than 50 ms)
// for a first byte. It returns 0 and no error when nothing came, ErrGone while
// the port is gone.
func (p *Port) ReadFor(b []byte, limit time.Duration) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.master == nil {
		return 0, ErrGone
	}
	limit = max(0, min(limit, maxWait))
	wait := unix.NsecToTimespec(int64(limit))
	ready := []unix.PollFd{{Fd: int32(p.masterFD), Events: unix.POLLIN}}
	n, err := unix.Ppoll(ready, &wait, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return 0, fmt.Errorf("wait for bytes: %w", err)
	}
	if n <= 0 {
		return 0, p.silent()
	}
	got, err := unix.Read(p.masterFD, b)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	p.heard.Lock()
	p.last = time.Now()
	p.heard.Unlock()
	return got, nil
}

func (p *Port) silent() error {
	p.heard.Lock()
	defer p.heard.Unlock()
	if time.Since(p.last) < releaseAfter {
		return nil
	}
	p.last = time.Now()
	if err := unix.IoctlSetInt(p.slaveFD, unix.TIOCNXCL, 0); err != nil {
		return fmt.Errorf("give up exclusive use: %w", err)
	}
	return nil
}

// Write sends bytes. What does not fit because nobody reads is lost, as on a
// real line.
func (p *Port) Write(b []byte) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.master == nil {
		return 0, ErrGone
	}
	for sent := 0; sent < len(b); {
		n, err := unix.Write(p.masterFD, b[sent:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return len(b), nil
		case err != nil:
			return sent, fmt.Errorf("write: %w", err)
		default:
			sent += n
		}
	}
	return len(b), nil
}

// Vanish pulls the plug: the far end is hung up and the link goes.
func (p *Port) Vanish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vanish()
}

func (p *Port) vanish() error {
	if p.master == nil {
		return nil
	}
	err := errors.Join(p.slave.Close(), p.master.Close())
	p.master, p.slave = nil, nil
	if p.link != "" {
		if gone := os.Remove(p.link); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// Return plugs it in again, under the same link but usually another number.
func (p *Port) Return() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrGone
	}
	if p.master != nil {
		return nil
	}
	return p.open()
}

// Close takes the port away for good. It may be called twice.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return p.vanish()
}
