package demo

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"batteryswap/simulator/console"
	"batteryswap/simulator/proxy"
)

// network is the lines between the programs and their servers. Each program has
// its own line to each of its servers.
type network struct {
	mu      sync.Mutex
	lines   []*proxy.Proxy
	strikes map[proxy.Fault]int
}

// Bounds of what a bad network does.
const (
	strikeGap  = 6 * time.Second  // at most, between two strikes
	strikeTime = 10 * time.Second // at most, until one is healed
)

// lineTo is the address by which a program reaches a server: the server's own,
// or that of a proxy of its own where the network is bad.
func (s *stage) lineTo(transport, server string) (address string, err error) {
	if !s.o.BadNetwork {
		return server, nil
	}
	p, err := proxy.New(transport, server)
	if err != nil {
		return "", err
	}
	s.onClose(p.Close)
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	s.network.lines = append(s.network.lines, p)
	return p.Address(), nil
}

// brokerLine is the MQTT_URL of one program.
func (s *stage) brokerLine() (url string, err error) {
	if s.o.MQTTURL != "" {
		return s.o.MQTTURL, nil
	}
	address, err := s.lineTo("tcp", s.brokerAddress)
	return "tcp://" + address, err
}

// databaseLine is the DATABASE_URL of one program.
func (s *stage) databaseLine() (url string, err error) {
	if !s.o.BadNetwork {
		return s.databaseURL, nil
	}
	address, err := s.lineTo("unix", filepath.Join(s.dir, "database", ".s.PGSQL.5432"))
	return "postgres://swap@" + address + "/postgres?sslmode=disable", err
}

// misbehave strikes one line after the other, at moments drawn from the seed,
// until ctx ends. Then the network is repaired: every line is whole again, and
// what was connected by it is reset.
func (n *network) misbehave(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	faults := proxy.Faults()
	var healing sync.WaitGroup
	for len(n.lines) > 0 {
		gap := time.Duration(r.Int64N(int64(strikeGap)))
		line, fault := n.lines[r.IntN(len(n.lines))], faults[r.IntN(len(faults))]
		lasts := time.Duration(r.Int64N(int64(strikeTime)))
		if console.Wait(ctx, gap) != nil {
			break
		}
		n.mu.Lock()
		n.strikes[fault]++
		n.mu.Unlock()
		line.Strike(fault)
		healing.Go(func() {
			_ = console.Wait(ctx, lasts) // its end heals, too
			line.Heal()
		})
	}
	healing.Wait()
	for _, line := range n.lines {
		line.Strike(proxy.Cut)
	}
}
