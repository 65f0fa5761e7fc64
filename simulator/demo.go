package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"batteryswap/simulator/console"
	"batteryswap/simulator/demo"
	"batteryswap/simulator/rider"
)

// demoCommand is `simulator demo`.
type demoCommand struct {
	Cabinets     int      `help:"Cabinets, each with its own firmware-agent." default:"3"`
	Slots        int      `help:"Slots of a cabinet; two thirds hold a charged battery at the start." default:"12"`
	Riders       int      `help:"Simulated riders." default:"12"`
	Swaps        int      `help:"Counted swaps after which riders stop; 0: never." default:"0"`
	Exit         bool     `help:"End after --swaps: print what happened in the world and what the ledger says, rider by rider. Status 0 when they are equal."`
	JSON         bool     `name:"json" help:"Print that as JSON."`
	Seed         uint64   `help:"The same seed repeats the riders' behaviour." default:"1"`
	Replicas     int      `help:"Backends, all with the same database and broker; riders are shared out among them." default:"1"`
	KillAgents   int      `help:"kill -9 of an agent, so often, at moments drawn from the seed (with --exit)." default:"0"`
	KillBackend  int      `help:"kill -9 of a backend, so often, at moments drawn from the seed (with --exit)." default:"0"`
	KillBroker   int      `help:"kill -9 of the broker, then a mosquitto, so often, at moments drawn from the seed (with --exit)." default:"0"`
	KillPostgres int      `help:"Immediate stop of PostgreSQL, so often, at moments drawn from the seed (with --exit)." default:"0"`
	BadNetwork   bool     `help:"Delay, cut, half open and swallow connections to broker and database, at moments drawn from the seed (with --exit)."`
	Behaviours   []string `help:"What kinds of riders, in turn: ${behaviours}." default:"quick"`
	Monitoring   string   `help:"Run Prometheus and Alertmanager beside it, with the files of this folder." placeholder:"FOLDER"`
	Keep         string   `help:"Make this folder for keys, logs and journals, and leave it behind."`
	Listen       string   `help:"Where riders' pages are served, HOST:PORT. Not on this machine alone: over TLS that nobody signed." default:"127.0.0.1:8080"`
	Speed        float64  `help:"Rides are so many times as short, and batteries charge so many times as fast. Hands, doors and serial lines keep their time." default:"120"`
	Scenario     string   `help:"Trouble at your cabinet, once it runs: one of those above." default:""`
	Baud         int      `help:"Rate of the cabinets' serial lines." default:"19200"`
	DatabaseURL  string   `name:"database-url" help:"A PostgreSQL to use instead of a throwaway one." env:"DATABASE_URL"`
	MQTTURL      string   `name:"mqtt-url" help:"A broker to use instead of the built-in one." env:"MQTT_URL"`
}

// Help lists the scenarios.
func (*demoCommand) Help() string { return console.ScenarioHelp() }

// Run runs the demo until it ends, or until a signal.
func (c *demoCommand) Run(log *slog.Logger) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	o := demo.Options{
		Cabinets: c.Cabinets, Slots: c.Slots, Riders: c.Riders, Swaps: c.Swaps, Exit: c.Exit, JSON: c.JSON,
		Seed: c.Seed, Speed: c.Speed, KillAgents: c.KillAgents, KillBackend: c.KillBackend, Baud: c.Baud,
		Replicas: c.Replicas, KillBroker: c.KillBroker, KillPostgres: c.KillPostgres, BadNetwork: c.BadNetwork,
		Scenario: c.Scenario, Monitoring: c.Monitoring, Keep: c.Keep, Listen: c.Listen, DatabaseURL: c.DatabaseURL, MQTTURL: c.MQTTURL, Programs: filepath.Dir(self),
	}
	for _, name := range c.Behaviours {
		b, err := rider.ParseBehaviour(name)
		if err != nil {
			return usageError{fmt.Errorf("--behaviours: %w", err)}
		}
		o.Behaviours = append(o.Behaviours, b)
	}
	if err := o.Check(); err != nil {
		return usageError{err}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return demo.Run(ctx, o, os.Stdin, os.Stdout, log)
}
