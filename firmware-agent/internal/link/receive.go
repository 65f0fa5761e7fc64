package link

import (
	"errors"
	"fmt"
	"time"

	"batteryswap/protocol"
)

// unknownType is counted for a message whose type is not known or not believed:
// a metric's label must not be a stranger's to choose.
const unknownType protocol.Type = "unknown"

// accept verifies a message and hands it on. Whatever is wrong with it is
// counted and told, and it goes no further.
func (c *Core) accept(now time.Time, m inbound) {
	t, result, err := c.judge(now, m)
	c.opt.Counted("in", t, result)
	if result == ResultOK {
		return
	}
	c.opt.Log.Warn("a message is refused", "event", "mqtt_refused", "cabinet_id", c.opt.CabinetID,
		"type", t, "reason", string(result), "err", err)
	switch result {
	case ResultDropped, ResultStale, ResultUnexpected:
		// No sign of an attack: a restart here or there makes these too.
	default:
		if t == unknownType {
			t = ""
		}
		c.opt.Rejected(t, string(result))
	}
}

func (c *Core) judge(now time.Time, m inbound) (protocol.Type, Result, error) {
	switch {
	case m.retained:
		return unknownType, ResultRetained, nil
	case m.topic != protocol.Topic(c.opt.CabinetID, protocol.Down):
		return unknownType, ResultForeign, nil
	case len(m.payload) > protocol.MaxEnvelope:
		return unknownType, ResultOversized, nil
	}
	e, err := protocol.OpenBy(m.payload, c.opt.Keys.Lookup, c.opt.Verify)
	switch {
	case errors.Is(err, protocol.ErrUnknownKey):
		return unknownType, ResultUnknownKey, err
	case errors.Is(err, protocol.ErrSignature):
		return unknownType, ResultWrongSignature, err
	case err != nil:
		return unknownType, ResultMalformed, err
	case e.CabinetID != c.opt.CabinetID:
		return unknownType, ResultForeign, nil
	}
	switch e.Type {
	case protocol.TypeHelloRequest:
		return answer(e, now, c.helloRequest)
	case protocol.TypeHelloOK:
		return answer(e, now, c.helloOK)
	case protocol.TypeLogAck:
		return answer(e, now, c.logAck)
	case protocol.TypePrepare:
		return deliver[protocol.Prepare](c, e)
	case protocol.TypeGrant:
		return deliver[protocol.Grant](c, e)
	case protocol.TypeCancel:
		return deliver[protocol.Cancel](c, e)
	case protocol.TypeWish:
		return deliver[protocol.Wish](c, e)
	case protocol.TypeGuide:
		return deliver[protocol.Guide](c, e)
	case protocol.TypeMaintenanceRequest:
		return deliver[protocol.MaintenanceRequest](c, e)
	case protocol.TypeMaintenanceGrant:
		return deliver[protocol.MaintenanceGrant](c, e)
	case protocol.TypeInventoryRequest:
		return deliver[protocol.InventoryRequest](c, e)
	}
	return unknownType, ResultUnexpected, fmt.Errorf("type %.20q", e.Type)
}

// deliver hands a command to the cabinet.
func deliver[M protocol.Message](c *Core, e protocol.Envelope) (protocol.Type, Result, error) {
	var m M
	if err := protocol.Decode(e, &m); err != nil {
		return e.Type, ResultMalformed, err
	}
	if !c.opt.Deliver(m, e.Raw) {
		return e.Type, ResultDropped, nil
	}
	return e.Type, ResultOK, nil
}

// answer decodes a message that the link itself takes.
func answer[M protocol.Message](e protocol.Envelope, now time.Time, take func(time.Time, M) error) (protocol.Type, Result, error) {
	var m M
	if err := protocol.Decode(e, &m); err != nil {
		return e.Type, ResultMalformed, err
	}
	err := take(now, m)
	switch {
	case err == nil:
		return e.Type, ResultOK, nil
	case errors.Is(err, errWrongAck):
		return e.Type, ResultWrongAck, err
	case errors.Is(err, errBusy):
		return e.Type, ResultDropped, err
	}
	return e.Type, ResultStale, err
}

// errBusy says that the cabinet could not take the configuration now; hello is
// repeated, so that it comes again.
var errBusy = errors.New("the cabinet is busy")

func (c *Core) helloOK(now time.Time, m protocol.HelloOK) error {
	if c.opt.Journal == nil || m.BootID != c.opt.BootID || m.Epoch != c.opt.Journal.Position().Epoch {
		return errStale
	}
	if m.Keys != "" {
		// Without the new keys the old ones hold, and the log goes on.
		if err := c.opt.Keys.Update([]byte(m.Keys)); err != nil {
			c.opt.Log.Error("a new key list is not taken", "event", "key_list", "cabinet_id", c.opt.CabinetID, "err", err)
			c.opt.Rejected(protocol.TypeHelloOK, "key_list")
		}
	}
	// The cabinet takes no older configuration. The log goes on all the same: the
	// books may have been restored from a backup, and know no newer one.
	if !c.opt.Greeted(m, c.opt.Keys.Version()) {
		return errBusy
	}
	return c.shipper.helloOK(now, m)
}

func (c *Core) helloRequest(now time.Time, m protocol.HelloRequest) error {
	if !c.shipper.helloRequest(now, m.Challenge) {
		return errStale
	}
	return nil
}

func (c *Core) logAck(now time.Time, m protocol.LogAck) error {
	if c.opt.Journal == nil {
		return errStale
	}
	return c.shipper.logAck(now, m)
}
