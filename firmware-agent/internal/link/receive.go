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
func (l *Link) accept(m inbound) {
	t, result, err := l.judge(m)
	l.opt.Counted("in", t, result)
	if result == ResultOK {
		return
	}
	l.opt.Log.Warn("a message is refused", "event", "mqtt_refused", "cabinet_id", l.opt.CabinetID,
		"type", t, "reason", string(result), "err", err)
	switch result {
	case ResultDropped, ResultStale, ResultUnexpected:
		// No sign of an attack: a restart here or there makes these too.
	default:
		if t == unknownType {
			t = ""
		}
		l.opt.Rejected(t, string(result))
	}
}

func (l *Link) judge(m inbound) (protocol.Type, Result, error) {
	switch {
	case m.retained:
		return unknownType, ResultRetained, nil
	case m.topic != protocol.Topic(l.opt.CabinetID, protocol.Down):
		return unknownType, ResultForeign, nil
	case len(m.payload) > protocol.MaxEnvelope:
		return unknownType, ResultOversized, nil
	}
	e, err := protocol.Open(m.payload, l.opt.Keys.Lookup)
	switch {
	case errors.Is(err, protocol.ErrUnknownKey):
		return unknownType, ResultUnknownKey, err
	case errors.Is(err, protocol.ErrSignature):
		return unknownType, ResultWrongSignature, err
	case err != nil:
		return unknownType, ResultMalformed, err
	case e.CabinetID != l.opt.CabinetID:
		return unknownType, ResultForeign, nil
	}
	switch e.Type {
	case protocol.TypeHelloOK:
		return answer(e, l.helloOK)
	case protocol.TypeLogAck:
		return answer(e, l.logAck)
	case protocol.TypePrepare:
		return deliver[protocol.Prepare](l, e)
	case protocol.TypeGrant:
		return deliver[protocol.Grant](l, e)
	case protocol.TypeCancel:
		return deliver[protocol.Cancel](l, e)
	case protocol.TypeWish:
		return deliver[protocol.Wish](l, e)
	case protocol.TypeInventoryRequest:
		return deliver[protocol.InventoryRequest](l, e)
	}
	return unknownType, ResultUnexpected, fmt.Errorf("type %.20q", e.Type)
}

// deliver hands a command to the cabinet.
func deliver[M protocol.Message](l *Link, e protocol.Envelope) (protocol.Type, Result, error) {
	var m M
	if err := protocol.Decode(e, &m); err != nil {
		return e.Type, ResultMalformed, err
	}
	if !l.opt.Deliver(m, e.Raw) {
		return e.Type, ResultDropped, nil
	}
	return e.Type, ResultOK, nil
}

// answer decodes a message that the link itself takes.
func answer[M protocol.Message](e protocol.Envelope, take func(M) error) (protocol.Type, Result, error) {
	var m M
	if err := protocol.Decode(e, &m); err != nil {
		return e.Type, ResultMalformed, err
	}
	err := take(m)
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

func (l *Link) helloOK(m protocol.HelloOK) error {
	if l.opt.Journal == nil || m.BootID != l.opt.BootID || m.Epoch != l.opt.Journal.Position().Epoch {
		return errStale
	}
	if m.Keys != "" {
		// Without the new keys the old ones hold, and the log goes on.
		if err := l.opt.Keys.Update([]byte(m.Keys)); err != nil {
			l.opt.Log.Error("a new key list is not taken", "event", "key_list", "cabinet_id", l.opt.CabinetID, "err", err)
			l.opt.Rejected(protocol.TypeHelloOK, "key_list")
		}
	}
	// An old answer that a broker repeats takes no newer configuration back.
	if m.Config.Version < l.config {
		return errStale
	}
	if !l.opt.Greeted(m, l.opt.Keys.Version()) {
		return errBusy
	}
	l.config = m.Config.Version
	return l.shipper.helloOK(time.Now(), m)
}

func (l *Link) logAck(m protocol.LogAck) error {
	if l.opt.Journal == nil {
		return errStale
	}
	return l.shipper.logAck(time.Now(), m)
}
