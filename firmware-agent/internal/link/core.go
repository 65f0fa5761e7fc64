package link

import (
	"crypto/ed25519"
	"time"

	"batteryswap/protocol"
)

// Core decides everything that the link does: what is sent and when, and what a
// message that came means. Beside reading the journal it does no I/O; it starts
// no goroutine and reads no clock. One goroutine drives it.
type Core struct {
	opt     Options
	shipper *shipper
}

// NewCore makes the core of a link.
func NewCore(opt Options) *Core {
	if opt.Counted == nil {
		opt.Counted = func(string, protocol.Type, Result) {}
	}
	if opt.Verify == nil {
		opt.Verify = ed25519.Verify
	}
	return &Core{opt: opt, shipper: newShipper(opt)}
}

// Greet begins a connection.
func (c *Core) Greet(now time.Time) { c.shipper.greet(now) }

// Due is the message that is to be sent now, nil when there is none. It is asked
// after everything that happens, until it has no more.
func (c *Core) Due(now time.Time) protocol.Message { return c.shipper.due(now) }

// At is when Due has something, if nothing else happens; zero: never.
func (c *Core) At() time.Time { return c.shipper.at() }

// Receive takes a message as the broker handed it over. What is wrong with it is
// counted and told, and it goes no further.
func (c *Core) Receive(now time.Time, topic string, retained bool, payload []byte) {
	c.accept(now, inbound{topic: topic, retained: retained, payload: payload})
}

// Outbound is a message as it is handed to the broker.
type Outbound struct {
	Topic   string
	QoS     byte
	Payload []byte
}

// Wrap signs a message. One that cannot be encoded is told, and dropped.
func (c *Core) Wrap(m protocol.Message) (Outbound, error) {
	t := m.MessageType()
	raw, err := c.seal(m)
	if err != nil {
		c.opt.Counted("out", t, ResultFailed)
		c.opt.Log.Error("a message cannot be sent", "event", "mqtt_encode", "cabinet_id", c.opt.CabinetID, "type", t, "err", err)
		return Outbound{}, err
	}
	channel, qos := protocol.UpRPC, byte(1)
	switch t {
	case protocol.TypeLog:
		channel = protocol.UpLog
	case protocol.TypeTelemetry:
		channel, qos = protocol.UpTelemetry, 0
	}
	return Outbound{protocol.Topic(c.opt.CabinetID, channel), qos, raw}, nil
}

func (c *Core) seal(m protocol.Message) ([]byte, error) {
	pub := c.opt.DeviceKey.Public().(ed25519.PublicKey)
	return protocol.Seal(protocol.KeyID(pub), c.opt.DeviceKey, c.opt.CabinetID, m)
}
