package link

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"batteryswap/protocol"
)

// What became of a message.
const (
	ResultOK             = "ok"
	ResultQueueFull      = "queue_full"
	ResultRetained       = "retained"
	ResultTopic          = "unexpected_topic"
	ResultOversized      = "oversized"
	ResultMalformed      = "malformed"
	ResultNoKeys         = "keys_not_loaded"
	ResultUnknownCabinet = "unknown_cabinet"
	ResultUnknownKey     = "unknown_key"
	ResultSignature      = "wrong_signature"
	ResultForeign        = "foreign_cabinet" // the envelope names another cabinet than the topic
	ResultType           = "unexpected_type" // of another channel
	ResultInvalid        = "invalid"         // a field is wrong
	ResultNotConnected   = "not_connected"
	ResultFailed         = "failed"
)

// Results is the closed list of results.
func Results() []string {
	return []string{
		ResultOK, ResultQueueFull, ResultRetained, ResultTopic, ResultOversized, ResultMalformed, ResultNoKeys,
		ResultUnknownCabinet, ResultUnknownKey, ResultSignature, ResultForeign, ResultType, ResultInvalid,
		ResultNotConnected, ResultFailed,
	}
}

const kindUnknown = "unknown"

// message is one that arrived and is not yet verified.
type message struct {
	cabinet protocol.CabinetID
	channel protocol.Channel
	payload []byte
}

// receive is called by paho, one message at a time: it only enqueues.
func (l *Link) receive(topic string, payload []byte, retained bool) {
	cabinet, channel, err := protocol.ParseTopic(topic)
	switch {
	case err != nil:
		l.drop(ResultTopic, "", err)
		return
	case retained:
		l.drop(ResultRetained, cabinet, errors.New("nothing is ever retained"))
		return
	case len(payload) > protocol.MaxEnvelope:
		l.drop(ResultOversized, cabinet, protocol.ErrTooLarge)
		return
	}
	var queue chan message
	switch channel {
	case protocol.UpLog:
		queue = l.logs
	case protocol.UpRPC:
		queue = l.calls
	case protocol.UpTelemetry, protocol.UpWill:
		queue = l.beats
	default:
		l.drop(ResultTopic, cabinet, errors.New("not a channel to the backend"))
		return
	}
	select {
	case queue <- message{cabinet, channel, payload}:
	default:
		l.drop(ResultQueueFull, cabinet, errors.New("more messages than can be handled"))
	}
}

// work verifies and handles messages until the link drains.
func (l *Link) work(ctx context.Context, queue <-chan message) {
	for {
		select {
		case m := <-queue:
			l.handle(ctx, m)
		case <-l.draining:
			for {
				select {
				case m := <-queue:
					l.handle(ctx, m)
				default:
					return
				}
			}
		}
	}
}

func (l *Link) handle(ctx context.Context, m message) {
	if ctx.Err() != nil {
		return
	}
	if !l.o.Ring.Loaded() {
		l.drop(ResultNoKeys, m.cabinet, errors.New("the database was not reachable yet"))
		return
	}
	e, err := protocol.Open(m.payload, l.o.Ring.Lookup)
	if err == nil && e.CabinetID != m.cabinet {
		l.drop(ResultForeign, m.cabinet, errors.New("the envelope names "+string(e.CabinetID)))
		return
	}
	if err != nil {
		l.drop(l.resultOf(err, m.cabinet), m.cabinet, err)
		return
	}
	known, err := l.o.Handlers.Dispatch(ctx, m.channel, e)
	switch {
	case err != nil:
		l.o.Count("in", string(e.Type), ResultInvalid)
		l.edge.warn(ResultInvalid, m.cabinet, err)
	case !known:
		l.drop(ResultType, m.cabinet, errors.New("not a message of this channel"))
	default:
		l.o.Count("in", string(e.Type), ResultOK)
	}
}

func (l *Link) resultOf(err error, cabinet protocol.CabinetID) string {
	switch {
	case errors.Is(err, protocol.ErrTooLarge):
		return ResultOversized
	case errors.Is(err, protocol.ErrUnknownKey) && !l.o.Ring.known(cabinet):
		return ResultUnknownCabinet
	case errors.Is(err, protocol.ErrUnknownKey):
		return ResultUnknownKey
	case errors.Is(err, protocol.ErrSignature):
		return ResultSignature
	default:
		return ResultMalformed
	}
}

// Dispatch decodes a verified message and hands it over; false means that the
// channel does not carry messages of this type.
func (h Handlers) Dispatch(ctx context.Context, channel protocol.Channel, e protocol.Envelope) (bool, error) {
	id := e.CabinetID
	type route struct {
		channel protocol.Channel
		kind    protocol.Type
	}
	switch (route{channel, e.Type}) {
	case route{protocol.UpLog, protocol.TypeLog}:
		return true, decode(e, func(m protocol.Log) { h.Log(e, m) })
	case route{protocol.UpRPC, protocol.TypeHello}:
		return true, decode(e, func(m protocol.Hello) { h.Hello(ctx, id, m) })
	case route{protocol.UpRPC, protocol.TypePrepared}:
		return true, decode(e, func(m protocol.Prepared) { h.Prepared(ctx, id, m) })
	case route{protocol.UpRPC, protocol.TypeRefused}:
		return true, decode(e, func(m protocol.Refused) { h.Refused(ctx, id, m) })
	case route{protocol.UpRPC, protocol.TypeMaintenanceAnswer}:
		return true, decode(e, func(m protocol.MaintenanceAnswer) { h.Maintenance(ctx, id, m) })
	case route{protocol.UpRPC, protocol.TypeInventory}:
		return true, decode(e, func(m protocol.InventoryReport) { h.Inventory(ctx, id, m) })
	case route{protocol.UpTelemetry, protocol.TypeTelemetry}:
		return true, decode(e, func(m protocol.Telemetry) { h.Telemetry(id, m) })
	case route{protocol.UpWill, protocol.TypeWill}:
		return true, decode(e, func(m protocol.Will) { h.Will(id, m) })
	}
	return false, nil
}

func decode[M protocol.Message](e protocol.Envelope, handle func(M)) error {
	var m M
	if err := protocol.Decode(e, &m); err != nil {
		return err
	}
	handle(m)
	return nil
}

// drop counts and logs a message that will not be handled. Nothing in it was
// verified, so it counts as of an unknown type.
func (l *Link) drop(result string, cabinet protocol.CabinetID, err error) {
	l.o.Count("in", kindUnknown, result)
	l.edge.warn(result, cabinet, err)
}

// edge logs what is dropped: at most one line per result in edgeInterval, so that
// a hostile client cannot fill a disk.
type edge struct {
	log  *slog.Logger
	mu   sync.Mutex
	seen map[string]*silence
}

type silence struct {
	until      time.Time
	suppressed int
}

const edgeInterval = 10 * time.Second

func (e *edge) warn(result string, cabinet protocol.CabinetID, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = map[string]*silence{}
	}
	s := e.seen[result]
	if s == nil {
		s = &silence{}
		e.seen[result] = s
	}
	now := time.Now()
	if now.Before(s.until) {
		s.suppressed++
		return
	}
	e.log.Warn("message dropped", "reason", result, "cabinet_id", cabinet, "err", err, "suppressed", s.suppressed)
	s.until, s.suppressed = now.Add(edgeInterval), 0
}
