package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/config"
)

// maxDescriptor is the first descriptor that select cannot wait for: the serial
// library panics in Read when its port's number is not below it.
const maxDescriptor = 1024

// portDescriptors is how many descriptors the library opens for a port.
const portDescriptors = 3

// What is wrong with a port.
var (
	errPortInUse   = errors.New("another program uses the port")
	errPortClosed  = errors.New("the port is closed")
	errDescriptors = fmt.Errorf("too many open files: the port's descriptor must be below %d", maxDescriptor)
)

// newBus starts the bus on the configured serial port. A port that is absent is
// no error: the bus tries again.
func newBus(c config.Serial, log *slog.Logger) (*bus.Bus, error) {
	mode, err := serialMode(c)
	if err != nil {
		return nil, err
	}
	charBits := 1 + mode.DataBits + c.StopBits
	if mode.Parity != serial.NoParity {
		charBits++
	}
	return bus.New(bus.Config{
		Open:     func() (bus.Line, error) { return openPort(c) },
		Baud:     c.Baud,
		CharBits: charBits,
		Device:   c.DeviceTime(),
		Log:      log.With("port", c.Port),
	})
}

// serialMode is the port's mode. InitialStatusBits stays nil: with it the
// library cannot open a port without modem lines, such as a pseudo-terminal.
func serialMode(c config.Serial) (*serial.Mode, error) {
	mode := &serial.Mode{BaudRate: c.Baud, DataBits: 8}
	switch c.Parity {
	case "none":
		mode.Parity = serial.NoParity
	case "even":
		mode.Parity = serial.EvenParity
	case "odd":
		mode.Parity = serial.OddParity
	default:
		return nil, fmt.Errorf("serial.parity is %q, expected none, even or odd", c.Parity)
	}
	switch c.StopBits {
	case 1:
		mode.StopBits = serial.OneStopBit
	case 2:
		mode.StopBits = serial.TwoStopBits
	default:
		return nil, fmt.Errorf("serial.stop_bits is %d, expected 1 or 2", c.StopBits)
	}
	return mode, nil
}

// openPort opens a serial port for this program alone.
func openPort(c config.Serial) (bus.Line, error) {
	mode, err := serialMode(c)
	if err != nil {
		return nil, err
	}
	// The device behind a by-path name, which the descriptors' links name too.
	device, err := filepath.EvalSymlinks(c.Port)
	if err != nil {
		return nil, fmt.Errorf("open serial port: %w", err)
	}
	if err := descriptorsFit(); err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", c.Port, err)
	}
	lock, err := lockDevice(device)
	if err != nil {
		return nil, fmt.Errorf("open serial port %s: %w", c.Port, err)
	}
	inner, err := serial.Open(device, mode)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open serial port %s: %w", c.Port, portError(err)), unix.Close(lock))
	}
	p := &port{inner: inner, lock: lock}
	if err := descriptorFits(device); err != nil {
		return nil, errors.Join(fmt.Errorf("open serial port %s: %w", c.Port, err), p.Close())
	}
	return p, nil
}

// portError makes the library's errors ones that errors.Is knows.
func portError(err error) error {
	var known *serial.PortError
	if !errors.As(err, &known) {
		return err
	}
	switch known.Code() {
	case serial.PortBusy:
		return fmt.Errorf("%w: %w", errPortInUse, err)
	case serial.PermissionDenied:
		return errNotAllowed()
	case serial.PortClosed:
		return fmt.Errorf("%w: %w", errPortClosed, err)
	}
	return err
}

// errNotAllowed tells whoever installed the agent what to do.
func errNotAllowed() error {
	return fmt.Errorf("%w: the agent's user may not use the device: add it to the device's group, mostly dialout", unix.EACCES)
}

// lockDevice keeps other agents off the device until the descriptor is closed,
// be it by a crash. The exclusive mode that the library sets does not stop root.
func lockDevice(device string) (int, error) {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		switch {
		case errors.Is(err, unix.EBUSY):
			err = errPortInUse
		case errors.Is(err, unix.EACCES):
			err = errNotAllowed()
		}
		return 0, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errPortInUse
		}
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// descriptorsFit says whether the descriptors that are opened next are low
// enough for the library, which waits with select.
func descriptorsFit() error {
	used, err := descriptors()
	if err != nil {
		return err
	}
	free := 0
	for fd := 0; fd < maxDescriptor && free <= portDescriptors; fd++ {
		if _, ok := used[fd]; !ok {
			free++
		}
	}
	if free <= portDescriptors { // one more is for the lock
		return errDescriptors
	}
	return nil
}

// descriptorFits says whether the device's descriptors are low enough, in case
// others were opened meanwhile.
func descriptorFits(device string) error {
	used, err := descriptors()
	if err != nil {
		return err
	}
	for fd, target := range used {
		if target == device && fd >= maxDescriptor {
			return errDescriptors
		}
	}
	return nil
}

// descriptors is what this program has open, by number.
func descriptors() (map[int]string, error) {
	const folder = "/proc/self/fd"
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("list the open files: %w", err)
	}
	used := map[int]string{}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		used[fd] = ""
		if target, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil {
			used[fd] = target
		}
	}
	return used, nil
}

// port is a serial port that is never written to after it was closed: the
// library would write to whatever file has the descriptor's number by then. A
// port that is closed during a write is closed when that write ends.
type port struct {
	inner serial.Port
	lock  int

	mu      sync.Mutex
	writing bool
	closed  bool
}

// SetReadTimeout sets how long Read waits.
func (p *port) SetReadTimeout(d time.Duration) error { return p.inner.SetReadTimeout(d) }

// Read gives what has arrived; 0, nil after the timeout.
func (p *port) Read(b []byte) (int, error) {
	if p.isClosed() {
		return 0, errPortClosed
	}
	n, err := p.inner.Read(b)
	if err != nil {
		return n, fmt.Errorf("read: %w", portError(err))
	}
	return n, nil
}

func (p *port) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Discard empties both buffers of the port.
func (p *port) Discard() error {
	if p.isClosed() {
		return errPortClosed
	}
	if err := errors.Join(p.inner.ResetOutputBuffer(), p.inner.ResetInputBuffer()); err != nil {
		return fmt.Errorf("discard: %w", portError(err))
	}
	return nil
}

// Write writes to the port, if it is still open.
func (p *port) Write(b []byte) (int, error) {
	if err := p.beginWrite(); err != nil {
		return 0, err
	}
	n, err := p.inner.Write(b)
	if err := p.endWrite(); err != nil {
		return n, err
	}
	if err != nil {
		return n, fmt.Errorf("write: %w", err)
	}
	return n, nil
}

func (p *port) beginWrite() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errPortClosed
	case p.writing:
		return errors.New("two writes at once")
	}
	p.writing = true
	return nil
}

// endWrite closes the port if Close was called meanwhile.
func (p *port) endWrite() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = false
	if !p.closed {
		return nil
	}
	return errors.Join(errPortClosed, p.release())
}

// Close closes the port; during a write, as soon as the write has ended.
func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if p.writing {
		return nil
	}
	return p.release()
}

// release closes both descriptors. The caller holds the mutex.
func (p *port) release() error {
	return errors.Join(p.inner.Close(), unix.Close(p.lock))
}
