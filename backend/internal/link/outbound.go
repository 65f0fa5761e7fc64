package link

import (
	"errors"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"batteryswap/protocol"
)

// outgoing is a message on its way to a cabinet.
type outgoing struct {
	cabinet protocol.CabinetID
	message protocol.Message
}

// Publish signs a message and sends it to a cabinet. It never blocks; false means
// dropped.
func (l *Link) Publish(cabinet protocol.CabinetID, m protocol.Message) bool {
	if !l.records.up() {
		l.dropOut(m, cabinet, ResultNotConnected, mqtt.ErrNotConnected)
		return false
	}
	select {
	case l.out <- outgoing{cabinet, m}:
		return true
	default:
		l.dropOut(m, cabinet, ResultQueueFull, errors.New("more messages than the broker takes"))
		return false
	}
}

// send signs and publishes in the order of Publish until the link is stopped and
// the queue is empty.
func (l *Link) send() {
	for {
		select {
		case o := <-l.out:
			l.publish(o)
		case <-l.flushing:
			for {
				select {
				case o := <-l.out:
					l.publish(o)
				default:
					return
				}
			}
		}
	}
}

// Seal signs a message to a cabinet: what leads to a pulse by the grant key,
// everything else by the service key.
func (k Keys) Seal(cabinet protocol.CabinetID, m protocol.Message) ([]byte, error) {
	if protocol.UseFor(m.MessageType()) == protocol.UseGrant {
		return protocol.Seal(k.GrantID, k.Grant, cabinet, m)
	}
	return protocol.Seal(k.ServiceID, k.Service, cabinet, m)
}

func (l *Link) publish(o outgoing) {
	raw, err := l.o.Keys.Seal(o.cabinet, o.message)
	if err != nil {
		l.dropOut(o.message, o.cabinet, ResultInvalid, err)
		return
	}
	switch err := l.records.publish(protocol.Topic(o.cabinet, protocol.Down), raw); {
	case errors.Is(err, mqtt.ErrNotConnected):
		l.dropOut(o.message, o.cabinet, ResultNotConnected, err)
	case err != nil:
		l.dropOut(o.message, o.cabinet, ResultFailed, err)
	default:
		l.o.Count("out", string(o.message.MessageType()), ResultOK)
	}
}

func (l *Link) dropOut(m protocol.Message, cabinet protocol.CabinetID, result string, err error) {
	l.o.Count("out", string(m.MessageType()), result)
	l.edge.warn("out_"+result, cabinet, err)
}
