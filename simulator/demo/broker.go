package demo

import (
	"fmt"
	"log/slog"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxPacket is mosquitto's message_size_limit of a production broker.
const maxPacket = 64 << 10

// broker is an MQTT broker inside this program. It keeps nothing: no retained
// message, no session that outlives its connection.
type broker struct {
	server *mqtt.Server
	url    string
}

func startBroker() (*broker, error) {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.RetainAvailable = 0
	capabilities.MaximumSessionExpiryInterval = 0
	capabilities.MaximumPacketSize = maxPacket
	server := mqtt.New(&mqtt.Options{Capabilities: capabilities, Logger: slog.New(slog.DiscardHandler)})
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
	return &broker{server: server, url: "tcp://" + tcp.Address()}, nil
}

func (b *broker) stop() error { return b.server.Close() }

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
