package demo

import (
	"errors"
	"fmt"
	"net"

	"batteryswap/protocol"
	"batteryswap/simulator/console"
	"batteryswap/simulator/rider"
)

// Options are what the demo can be told.
type Options struct {
	Cabinets, Slots, Riders int
	// Swaps is how many counted swaps the riders do; 0: they never stop.
	Swaps int
	// Exit: compare world and ledger after Swaps, and end.
	Exit bool
	// JSON: print the comparison as JSON.
	JSON       bool
	Seed       uint64
	Speed      float64
	Behaviours []rider.Behaviour
	// Replicas is how many backends run; riders are shared out among them.
	Replicas int
	// KillAgents, KillBackend, KillBroker and KillPostgres are how often the
	// programs are killed, at moments drawn from the seed. Riders go on until all
	// is done.
	KillAgents, KillBackend, KillBroker, KillPostgres int
	// BadNetwork lets connections of agents and backends to broker and database
	// be delayed, cut, half opened and swallowed, at moments drawn from the seed.
	BadNetwork bool
	Baud       int
	// Scenario is trouble at the cabinet of the person before the screen, "" for
	// none: one of console.Scenarios.
	Scenario string
	// Keep is a folder for keys, logs and journals that is left behind; "" is a
	// temporary one that is not.
	Keep string
	// Monitoring is a folder with the configurations of Prometheus and
	// Alertmanager, which run beside the demo; "": they do not.
	Monitoring string
	// Listen is where the riders' pages are served: host:port.
	Listen string
	// DatabaseURL and MQTTURL replace what the demo would start.
	DatabaseURL, MQTTURL string
	// Programs is the folder of the binaries.
	Programs string
}

// Bounds of a demo on one machine.
const (
	maxCabinets = 50
	maxRiders   = 500
	maxReplicas = 8
	minSlots    = 4
)

// Check says everything that is wrong with the options.
func (o Options) Check() error {
	var all []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	want(o.Cabinets >= 1 && o.Cabinets <= maxCabinets, "--cabinets is %d, expected 1 to %d", o.Cabinets, maxCabinets)
	want(o.Slots >= minSlots && o.Slots <= protocol.MaxSlots, "--slots is %d, expected %d to %d", o.Slots, minSlots, protocol.MaxSlots)
	want(o.Riders >= 0 && o.Riders <= maxRiders, "--riders is %d, expected 0 to %d", o.Riders, maxRiders)
	want(o.Swaps >= 0, "--swaps is %d, expected 0 or more", o.Swaps)
	want(!o.Exit || o.Swaps > 0 && o.Riders > 0, "--exit needs --swaps and --riders above 0")
	want(o.Speed > 0, "--speed is %g, expected more than 0", o.Speed)
	want(o.Replicas >= 1 && o.Replicas <= maxReplicas, "--replicas is %d, expected 1 to %d", o.Replicas, maxReplicas)
	o.checkTrouble(want)
	if o.Scenario != "" {
		_, err := console.FindScenario(o.Scenario)
		want(err == nil, "--scenario: %w", err)
		want(!o.Exit, "--scenario does not go with --exit")
	}
	_, _, err := net.SplitHostPort(o.Listen)
	want(err == nil, "--listen is %q, expected HOST:PORT", o.Listen)
	return errors.Join(all...)
}

// checkTrouble says what is wrong with the kills and the network.
func (o Options) checkTrouble(want func(ok bool, format string, args ...any)) {
	for _, k := range killKinds() {
		want(o.kills(k) >= 0, "--kill-%s is %d, expected 0 or more", k, o.kills(k))
		want(o.Exit || o.kills(k) == 0, "--kill-%s needs --exit", k)
	}
	want(o.Exit || !o.BadNetwork, "--bad-network needs --exit")
	want(o.MQTTURL == "" || o.KillBroker == 0 && !o.BadNetwork, "--mqtt-url does not go with --kill-broker and --bad-network: they want a broker of the demo's own")
	want(o.DatabaseURL == "" || o.KillPostgres == 0 && !o.BadNetwork, "--database-url does not go with --kill-postgres and --bad-network: they want a database of the demo's own")
}

// kills is how often programs of a kind are killed.
func (o Options) kills(k killKind) int {
	switch k {
	case killAgents:
		return o.KillAgents
	case killBackend:
		return o.KillBackend
	case killBroker:
		return o.KillBroker
	case killPostgres:
		return o.KillPostgres
	}
	return 0
}

// chargedPerCabinet is how many of a cabinet's slots hold a charged battery at
// the start: two thirds.
func (o Options) chargedPerCabinet() int { return o.Slots * 2 / 3 }
