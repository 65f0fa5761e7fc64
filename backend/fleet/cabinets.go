package fleet

import (
	"context"
	"errors"
	"time"

	"batteryswap/backend/internal/link"
	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// callTimeout bounds what one message of a cabinet may cost. A grant is of no
// use later than that: the request is then too old.
const callTimeout = 5 * time.Second

func (f *Fleet) handlers() link.Handlers {
	return link.Handlers{
		Log: f.gotLog, Hello: f.gotHello, Prepared: f.gotPrepared, Refused: f.gotRefused,
		Maintenance: f.gotMaintenanceAnswer,
		Inventory: func(_ context.Context, id protocol.CabinetID, _ protocol.InventoryReport) {
			f.log.Debug("inventory", "cabinet_id", id) // telemetry carries the same
		},
		Telemetry: f.beats.heard,
		Will: func(id protocol.CabinetID, _ protocol.Will) {
			f.log.Info("the broker says that a cabinet's connection died", "cabinet_id", id)
		},
	}
}

// gotLog hands records to the recorder. Full means dropped: the agent sends
// again.
func (f *Fleet) gotLog(e protocol.Envelope, m protocol.Log) {
	if f.recorder.Submit(postgres.Batch{CabinetID: e.CabinetID, Envelope: e, Log: m}) {
		f.metrics.submitted(e.CabinetID)
	}
}

func (f *Fleet) recorderOptions() postgres.RecorderOptions {
	return postgres.RecorderOptions{
		Acked: func(id protocol.CabinetID, ack protocol.LogAck) {
			f.metrics.acked(id)
			f.link.Publish(id, ack)
		},
		Ask: func(id protocol.CabinetID, m protocol.HelloRequest) { f.link.Publish(id, m) },
		Hooks: postgres.Hooks{
			Committed: f.metrics.committed,
			Dropped:   f.metrics.dropped,
			Rejected: func(id protocol.CabinetID, err error) {
				f.metrics.rejected(id)
				f.log.Warn("log batch not taken", "cabinet_id", id, "err", err)
			},
			Failed: func(error) { f.metrics.failed() }, // the recorder logs it
			Closed: f.metrics.closed,
			Timed:  f.metrics.timed,
			Alarm: func(_ protocol.CabinetID, a protocol.Alarm) {
				f.metrics.safetyEvent(a)
				f.alarm()
			},
		},
	}
}

func (f *Fleet) gotHello(ctx context.Context, id protocol.CabinetID, m protocol.Hello) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := f.store.Hello(ctx, id, m)
	if errors.Is(err, postgres.ErrOld) {
		f.log.Debug("hello", "cabinet_id", id, "err", err)
		return
	}
	if err != nil {
		f.log.Error("hello", "cabinet_id", id, "err", err)
		return
	}
	if m.KeysVersion < f.o.Keys.List.Version {
		answer.Keys = f.o.Keys.Signed
	}
	f.log.Info("hello", "cabinet_id", id, "event", answer.Verdict, "boot_seq", m.BootSeq, "software", m.Software,
		"tail_seq", m.TailSeq, "resume_seq", answer.ResumeSeq)
	f.link.Publish(id, answer)
	f.guide(ctx, id)
}

// gotPrepared grants, whichever replica asked.
func (f *Fleet) gotPrepared(ctx context.Context, id protocol.CabinetID, m protocol.Prepared) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	grant, err := f.store.Prepared(ctx, id, m)
	if err != nil {
		f.log.Error("prepared", "cabinet_id", id, "swap_id", m.SwapID, "err", err)
		return
	}
	if grant != nil {
		f.link.Publish(id, *grant)
		return
	}
	// The cabinet keeps itself ready for a swap that will never start.
	over, err := f.store.NeverStarts(ctx, id, m.SwapID)
	if err != nil {
		f.log.Error("prepared", "cabinet_id", id, "swap_id", m.SwapID, "err", err)
	} else if over {
		f.link.Publish(id, protocol.Cancel{SwapID: m.SwapID})
	}
}

func (f *Fleet) gotRefused(ctx context.Context, id protocol.CabinetID, m protocol.Refused) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := f.store.Refused(ctx, id, m); err != nil {
		f.log.Error("refused", "cabinet_id", id, "swap_id", m.SwapID, "reason", m.Reason, "err", err)
	}
}
