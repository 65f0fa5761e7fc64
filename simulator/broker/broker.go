// Package broker is an MQTT broker inside a simulation's own process, so that a
// demo needs no other program. It knows what a production broker allows and keeps
// nothing. It gives Start, and a way to take part without a connection. It needs
// a free port.
package broker

import (
	"fmt"
	"log/slog"
	"slices"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxPacket is mosquitto's message_size_limit of a production broker.
const maxPacket = 64 << 10

// Broker is an MQTT broker inside this program. It keeps nothing: no retained
// message, no session that outlives its connection.
type Broker struct {
	server *mqtt.Server
	url    string
}

// Start serves on a free port of the loopback.
func Start() (*Broker, error) {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.RetainAvailable = 0
	capabilities.MaximumSessionExpiryInterval = 0
	capabilities.MaximumPacketSize = maxPacket
	server := mqtt.New(&mqtt.Options{Capabilities: capabilities, InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	if err := server.AddHook(new(noRetain), nil); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "demo", Address: "127.0.0.1:0"})
	if err := server.AddListener(tcp); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	return &Broker{server: server, url: "tcp://" + tcp.Address()}, nil
}

// URL is where clients connect.
func (b *Broker) URL() string { return b.url }

// Stop ends all connections.
func (b *Broker) Stop() error { return b.server.Close() }

// Hear hands on what is published to a topic. The bytes are the hearer's own; it
// must not block for long, for the publisher waits.
func (b *Broker) Hear(topic string, hear func(payload []byte)) error {
	return b.server.Subscribe(topic, 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		hear(slices.Clone(pk.Payload))
	})
}

// Say publishes at least once.
func (b *Broker) Say(topic string, payload []byte) error {
	return b.server.Publish(topic, payload, false, 1)
}

// noRetain disconnects who wants a message kept, as a production broker does:
// commands are never retained.
type noRetain struct{ mqtt.HookBase }

// ID names the hook.
func (*noRetain) ID() string { return "no-retain" }

// Provides says which events the hook wants.
func (*noRetain) Provides(b byte) bool { return b == mqtt.OnPublish }

// OnPublish refuses a retained message and its sender.
func (*noRetain) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Retain {
		cl.Stop(packets.ErrRetainNotSupported)
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}
