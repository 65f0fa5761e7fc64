package fleet

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"batteryswap/backend/internal/postgres"
)

const (
	// auditAt is when a night's audit is due: 03:00 in Asia/Shanghai, by UTC.
	auditAt = 19 * time.Hour
	// auditLook is how often a replica looks whether one is due.
	auditLook = 10 * time.Second
	// auditTimeout bounds an audit.
	auditTimeout = 2 * time.Hour
	// auditTold bounds the differences that are logged one by one.
	auditTold = 50
)

// auditDue is the last moment before now at which an audit was due.
func auditDue(now time.Time) time.Time {
	return now.UTC().Add(-auditAt).Truncate(24 * time.Hour).Add(auditAt)
}

// audit lets one replica audit the books each night, and when staff ask for it.
func (f *Fleet) audit(ctx context.Context) {
	o := outage{log: f.log, what: "audit"}
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, auditTimeout)
		rep, did, err := f.store.AuditIfDue(within, auditDue)
		cancel()
		if ctx.Err() != nil {
			return
		}
		o.note(err)
		if did {
			f.tellAudit(rep)
		}
		wait(ctx, auditLook, nil)
	}
}

func (f *Fleet) tellAudit(rep postgres.Report) {
	f.log.Info("books audited", "event", "audited", "entries", rep.Entries, "records", rep.Records, "differences", len(rep.Differences), "took_ms", rep.TookMS)
	for _, d := range rep.Differences[:min(len(rep.Differences), auditTold)] {
		f.log.Error("the books differ from what they rest on", "event", "audit_difference", "reason", d.What, "key", d.Key, "books", d.Books, "ledger", d.Ledger)
	}
}

// sendAudit shows the last audit; without one there is nothing to show.
func sendAudit(ch chan<- prometheus.Metric, a postgres.AuditRun) {
	newGauge("swap_ledger_mismatches", "Differences that the last audit found between the books and what they rest on.").send(ch, float64(a.Differences))
	newGauge("swap_audit_timestamp_seconds", "When the last audit began.").send(ch, seconds(a.BeganAt))
	newGauge("swap_audit_duration_seconds", "How long the last audit took.").send(ch, a.Took.Seconds())
	newGauge("swap_audit_entries", "Ledger entries that the last audit examined.").send(ch, float64(a.Entries))
	newGauge("swap_audit_records", "Journal records that the last audit folded again.").send(ch, float64(a.Records))
}
