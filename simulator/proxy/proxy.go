package proxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Fault is something that a network does to connections.
type Fault string

// The faults.
const (
	// Delay keeps every piece back for Late, in both directions, until Heal.
	Delay Fault = "delay"
	// Cut resets every connection. New ones pass.
	Cut Fault = "cut"
	// HalfOpen resets one end of every connection, and leaves the other to find
	// out: the client's of the first, the server's of the next. New ones pass.
	HalfOpen Fault = "half_open"
	// Swallow takes what both ends of every connection say, and tells neither. New
	// connections are taken and lead nowhere, until Heal.
	Swallow Fault = "swallow"
)

// Faults lists them all.
func Faults() []Fault { return []Fault{Delay, Cut, HalfOpen, Swallow} }

const (
	// Late is how much later a delayed piece comes.
	Late = 300 * time.Millisecond
	// maxSilence is when the kernel at the end of a connection that leads nowhere
	// gives it up, if nobody has before.
	maxSilence  = 3 * time.Minute
	dialTimeout = 5 * time.Second
	pieceSize   = 32 << 10 // bytes
)

// Proxy forwards connections from a port of the loopback to a server.
type Proxy struct {
	listener    net.Listener
	network, to string
	ends        chan struct{} // closed by Close
	running     sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	delaying   bool
	swallowing bool
	halved     int // connections that lost an end
	lines      map[*line]struct{}
}

// line is one connection through the proxy.
type line struct {
	client, server net.Conn // server is nil on one that never led anywhere
	lost           bool     // it carries nothing any more
}

// New forwards from a free port of the loopback to a server: "tcp" and
// host:port, or "unix" and a socket's path. The server need not run yet.
func New(network, to string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy to %s: %w", to, err)
	}
	p := &Proxy{listener: l, network: network, to: to, ends: make(chan struct{}), lines: map[*line]struct{}{}}
	p.running.Go(p.accept)
	return p, nil
}

// Address is where the proxy listens: host:port.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close resets every connection and takes no more. It may be called twice.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.ends)
	p.cut()
	p.mu.Unlock()
	err := p.listener.Close()
	p.running.Wait()
	return err
}

// Strike lets a fault happen to the connections that there are.
func (p *Proxy) Strike(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f {
	case Delay:
		p.delaying = true
	case Cut:
		p.cut()
	case HalfOpen:
		for l := range p.lines {
			if l.lost {
				continue
			}
			l.lose()
			if p.halved++; p.halved%2 == 1 {
				reset(l.client)
			} else {
				reset(l.server)
			}
		}
	case Swallow:
		p.swallowing = true
		for l := range p.lines {
			l.lose()
		}
	}
}

// Heal ends delaying and swallowing. What a connection has lost stays lost.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delaying, p.swallowing = false, false
}

func (p *Proxy) cut() {
	for l := range p.lines {
		l.lost = true
		reset(l.client)
		reset(l.server)
	}
}

// lose lets a line carry nothing any more.
func (l *line) lose() {
	if l.lost {
		return
	}
	l.lost = true
	at := time.Now().Add(maxSilence)
	for _, c := range []net.Conn{l.client, l.server} {
		if c != nil {
			_ = c.SetDeadline(at) // of a connection that is closed already: it is gone, then
		}
	}
}

// reset ends a connection without a farewell.
func reset(c net.Conn) {
	if c == nil {
		return
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // as above
	}
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.running.Go(func() { p.carry(client) })
		}
	}
}

// carry carries one connection to its end.
func (p *Proxy) carry(client net.Conn) {
	l := &line{client: client}
	p.mu.Lock()
	nowhere := p.swallowing
	p.mu.Unlock()
	if !nowhere {
		server, err := net.DialTimeout(p.network, p.to, dialTimeout)
		if err != nil {
			reset(client) // as a server's machine does where nothing listens
			return
		}
		l.server = server
	}
	if !p.add(l) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, l.client, l.server) })
	if l.server != nil {
		pumps.Go(func() { p.pump(l, l.server, l.client) })
	}
	pumps.Wait()
	p.mu.Lock()
	delete(p.lines, l)
	p.mu.Unlock()
}

// add enters a line; false: the proxy has ended.
func (p *Proxy) add(l *line) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		reset(l.client)
		reset(l.server)
		return false
	}
	p.lines[l] = struct{}{}
	if p.swallowing || l.server == nil {
		l.lose()
	}
	return true
}

// pump copies one direction. An end that closes is told to the other, unless the
// line leads nowhere any more.
func (p *Proxy) pump(l *line, from, to net.Conn) {
	piece := make([]byte, pieceSize)
	for {
		n, err := from.Read(piece)
		late, lost := p.condition(l)
		if n > 0 && late && !lost {
			p.wait(Late)
			_, lost = p.condition(l)
		}
		if n > 0 && !lost {
			if _, writeErr := to.Write(piece[:n]); writeErr != nil && err == nil {
				err = writeErr
			}
		}
		if err == nil {
			continue
		}
		_ = from.Close() // it has ended: this only forgets it
		if _, lost = p.condition(l); !lost {
			_ = to.Close() // what was written before still comes
		}
		return
	}
}

func (p *Proxy) condition(l *line) (late, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delaying, l.lost
}

func (p *Proxy) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.ends:
	case <-timer.C:
	}
}
