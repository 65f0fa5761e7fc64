package postgres

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

var writeCursors = updates("cabinet_cursor",
	text("cabinet_id", func(c *swap.Cabinet) protocol.CabinetID { return c.CabinetID }),
	b16("epoch", func(c *swap.Cabinet) protocol.Epoch { return c.Epoch }),
	numbers("last_seq", func(c *swap.Cabinet) uint64 { return c.LastSeq }),
	b16("last_hash", func(c *swap.Cabinet) protocol.Hash { return c.LastHash }),
	flags("hole", func(c *swap.Cabinet) bool { return c.Hole }),
	flags("forked", func(c *swap.Cabinet) bool { return c.Forked }),
	numbers("boot_seq", func(c *swap.Cabinet) uint32 { return c.BootSeq }),
	b16("boot_id", func(c *swap.Cabinet) protocol.BootID { return c.BootID }),
	numbers("clock_boot", func(c *swap.Cabinet) uint32 { return c.ClockBoot }),
	numbers("clock_offset_ms", func(c *swap.Cabinet) int64 { return c.ClockOffsetMS }),
	times("heard_at", func(c *swap.Cabinet) time.Time { return c.HeardAt }),
)

var writeRiders = updates("rider",
	uuids("rider_id", func(r *swap.Rider) swap.RiderID { return r.RiderID }),
	numbers("deposits", func(r *swap.Rider) int { return r.Deposits }),
	numbers("returns", func(r *swap.Rider) int { return r.Returns }),
	numbers("takes", func(r *swap.Rider) int { return r.Takes }),
	numbers("counted", func(r *swap.Rider) int { return r.Counted }),
	numbers("issued", func(r *swap.Rider) int { return r.Issued }),
	numbers("credits_due", func(r *swap.Rider) int { return r.CreditsDue }),
	numbers("open_reviews", func(r *swap.Rider) int { return r.OpenReviews }),
)

var writeCredits = upserts("credit", "credit_id",
	uuids("credit_id", func(c *swap.Credit) swap.CreditID { return c.CreditID }),
	uuids("rider_id", func(c *swap.Credit) swap.RiderID { return c.RiderID }),
	text("origin", func(c *swap.Credit) swap.Origin { return c.Origin }),
	text("state", func(c *swap.Credit) swap.CreditState { return c.State }),
	uuids("swap_id", func(c *swap.Credit) protocol.SwapID { return c.SwapID }),
	times("opened_at", func(c *swap.Credit) time.Time { return c.OpenedAt }),
)

var writeBatteries = upserts("battery", "battery_serial",
	text("battery_serial", func(x *swap.Battery) protocol.BatterySerial { return x.BatterySerial }),
	plain("type", "text", func(x *swap.Battery) string { return x.Type }),
	flags("is_foreign", func(x *swap.Battery) bool { return x.Foreign }),
	text("holder", func(x *swap.Battery) swap.Holder { return x.Holder }),
	uuids("rider_id", func(x *swap.Battery) swap.RiderID { return x.RiderID }),
	text("cabinet_id", func(x *swap.Battery) protocol.CabinetID { return x.CabinetID }),
	nullZero(numbers("slot", func(x *swap.Battery) int { return x.Slot })),
	list("ahead_of", "uuid", func(x *swap.Battery) []protocol.SwapID { return x.AheadOf }),
	numbers("entries", func(x *swap.Battery) int { return x.Entries }),
)

func nullZero[T any](c column[T]) column[T] {
	c.expr = "NULLIF(" + c.expr + ", 0)"
	return c
}

var writeSwaps = upserts("swap", "swap_id",
	uuids("swap_id", func(s *swap.Swap) protocol.SwapID { return s.SwapID }),
	text("cabinet_id", func(s *swap.Swap) protocol.CabinetID { return s.CabinetID }),
	uuids("rider_id", func(s *swap.Swap) swap.RiderID { return s.RiderID }),
	text("kind", func(s *swap.Swap) protocol.Kind { return s.Kind }),
	text("state", func(s *swap.Swap) swap.State { return s.State }),
	flags("by_fact", func(s *swap.Swap) bool { return s.ByFact }),
	flags("parked", func(s *swap.Swap) bool { return s.Parked }),
	b16("epoch", func(s *swap.Swap) protocol.Epoch { return s.Epoch }),
	numbers("boot_seq", func(s *swap.Swap) uint32 { return s.BootSeq }),
	b16("boot_id", func(s *swap.Swap) protocol.BootID { return s.BootID }),
	b16("nonce", func(s *swap.Swap) protocol.Nonce { return s.Nonce }),
	documents("deposit_slots", func(s *swap.Swap) any { return s.DepositSlots }),
	documents("dispense", func(s *swap.Swap) any { return s.Dispense }),
	uuids("credit_id", func(s *swap.Swap) swap.CreditID { return s.CreditID }),
	text("step", func(s *swap.Swap) swap.Step { return s.Step }),
	numbers("slot", func(s *swap.Swap) int { return s.Slot }),
	text("door", func(s *swap.Swap) protocol.Door { return s.Door }),
	text("judgement", func(s *swap.Swap) swap.Judgement { return s.Judgement }),
	numbers("deposit_slot", func(s *swap.Swap) int { return s.DepositSlot }),
	text("deposited", func(s *swap.Swap) protocol.BatterySerial { return s.Deposited }),
	plain("soc", "bigint", func(s *swap.Swap) *int64 { return widen(s.Soc) }),
	documents("pulsed", func(s *swap.Swap) any { return s.Pulsed }),
	numbers("take_slot", func(s *swap.Swap) int { return s.TakeSlot }),
	text("taken", func(s *swap.Swap) protocol.BatterySerial { return s.Taken }),
	text("outcome", func(s *swap.Swap) protocol.Outcome { return s.Outcome }),
	text("reason", func(s *swap.Swap) protocol.Reason { return s.Reason }),
	text("reviewed", func(s *swap.Swap) protocol.Reason { return s.Reviewed }),
	text("ruling", func(s *swap.Swap) swap.Ruling { return s.Ruling }),
	numbers("entries", func(s *swap.Swap) int { return s.Entries }),
	numbers("view_seq", func(s *swap.Swap) uint64 { return s.ViewSeq }),
	times("requested_at", func(s *swap.Swap) time.Time { return s.RequestedAt }),
	times("updated_at", func(s *swap.Swap) time.Time { return s.UpdatedAt }),
	times("closed_at", func(s *swap.Swap) time.Time { return s.ClosedAt }),
)

func widen(n *int) *int64 {
	if n == nil {
		return nil
	}
	w := int64(*n)
	return &w
}

var writeScans = inserts("scan", "",
	uuids("rider_id", func(s storedScan) swap.RiderID { return s.RiderID }),
	text("idempotency_key", func(s storedScan) string { return s.IdempotencyKey }),
	text("cabinet_id", func(s storedScan) protocol.CabinetID { return s.CabinetID }),
	flags("hand_back", func(s storedScan) bool { return s.HandBack }),
	uuids("swap_id", func(s storedScan) protocol.SwapID { return s.swapID }),
	text("reason", func(s storedScan) protocol.Reason { return s.reason }),
	uuids("other_swap_id", func(s storedScan) protocol.SwapID { return s.other }),
)

var writeLedger = inserts("ledger", "",
	uuids("swap_id", func(e swap.Entry) protocol.SwapID { return e.SwapID }),
	numbers("entry_no", func(e swap.Entry) int { return e.EntryNo }),
	text("what", func(e swap.Entry) swap.What { return e.What }),
	text("kind", func(e swap.Entry) protocol.Kind { return e.Kind }),
	uuids("rider_id", func(e swap.Entry) swap.RiderID { return e.RiderID }),
	text("cabinet_id", func(e swap.Entry) protocol.CabinetID { return e.CabinetID }),
	nullZero(numbers("slot", func(e swap.Entry) int { return e.Slot })),
	text("battery_serial", func(e swap.Entry) protocol.BatterySerial { return e.BatterySerial }),
	uuids("credit_id", func(e swap.Entry) swap.CreditID { return e.CreditID }),
	text("origin", func(e swap.Entry) swap.Origin { return e.Origin }),
	flags("counted", func(e swap.Entry) bool { return e.Counted }),
	dates("day", func(e swap.Entry) swap.Day { return e.Day }),
	flags("derived", func(e swap.Entry) bool { return e.Derived }),
	text("holder", func(e swap.Entry) swap.Holder { return e.Holder }),
	nullZero(numbers("review_id", func(e swap.Entry) int64 { return e.ReviewID })),
	text("ruling", func(e swap.Entry) swap.Ruling { return e.Ruling }),
	text("ground", func(e swap.Entry) swap.Ground { return e.Ground }),
	text("decided_by", func(e swap.Entry) string { return e.By }),
	plain("digest", "bytea", digest),
	times("at", func(e swap.Entry) time.Time { return e.At }),
	text("time_quality", func(e swap.Entry) swap.TimeQuality { return e.Quality }),
	b16("epoch", func(e swap.Entry) protocol.Epoch { return e.Epoch }),
	nullZero(numbers("seq", func(e swap.Entry) uint64 { return e.Seq })),
)

var writeDays = inserts("day_count", "ON CONFLICT (rider_id, day, cabinet_id) DO UPDATE SET swaps = day_count.swaps + EXCLUDED.swaps",
	uuids("rider_id", func(d swap.DayCount) swap.RiderID { return d.RiderID }),
	dates("day", func(d swap.DayCount) swap.Day { return d.Day }),
	text("cabinet_id", func(d swap.DayCount) protocol.CabinetID { return d.CabinetID }),
	numbers("swaps", func(d swap.DayCount) int { return d.Swaps }),
)

// A review that is there already is the same one: facts must not fail.
var writeReviews = inserts("review", "ON CONFLICT DO NOTHING",
	uuids("swap_id", func(r swap.Review) protocol.SwapID { return r.SwapID }),
	text("cabinet_id", func(r swap.Review) protocol.CabinetID { return r.CabinetID }),
	uuids("rider_id", func(r swap.Review) swap.RiderID { return r.RiderID }),
	text("reason", func(r swap.Review) protocol.Reason { return r.Reason }),
	list("explanations", "text", func(r swap.Review) []protocol.Outcome { return r.Explanations }),
	documents("inventory", func(r swap.Review) any { return r.Inventory }),
	b16("epoch", func(r swap.Review) protocol.Epoch { return r.Epoch }),
	numbers("seq", func(r swap.Review) uint64 { return r.Seq }),
	times("at", func(r swap.Review) time.Time { return r.At }),
	text("time_quality", func(r swap.Review) swap.TimeQuality { return r.Quality }),
)

var writeDecisions = updates("review",
	numbers("review_id", func(d swap.DecidedReview) int64 { return d.ReviewID }),
	text("decision", func(d swap.DecidedReview) swap.Ruling { return d.Decision }),
	text("decision_reason", func(d swap.DecidedReview) swap.Ground { return d.Reason }),
	text("decided_by", func(d swap.DecidedReview) string { return d.By }),
	times("decided_at", func(d swap.DecidedReview) time.Time { return d.At }),
)

// line is a record with the cabinet whose journal it is from.
type line struct {
	cabinet protocol.CabinetID
	swap.Stored
}

var writeRecords = inserts("record", "",
	text("cabinet_id", func(l line) protocol.CabinetID { return l.cabinet }),
	b16("epoch", func(l line) protocol.Epoch { return l.Epoch }),
	numbers("seq", func(l line) uint64 { return l.Record.Seq }),
	numbers("boot_seq", func(l line) uint32 { return l.BootSeq }),
	numbers("type", func(l line) protocol.RecordType { return l.Type }),
	b16("hash", func(l line) protocol.Hash { return l.Hash }),
	uuids("swap_id", func(l line) protocol.SwapID { return l.SwapID }),
	times("at", func(l line) time.Time { return l.At }),
	text("time_quality", func(l line) swap.TimeQuality { return l.Quality }),
	text("malformed", func(l line) string {
		if l.Malformed == nil {
			return ""
		}
		return clean(l.Malformed.Error())
	}),
)

// words is a log message whose records are new, as it was signed.
type words struct {
	cabinet     protocol.CabinetID
	epoch       protocol.Epoch
	first, last uint64
	kid         string
	envelope    []byte
	receivedAt  time.Time
}

var writeWords = inserts("log_batch", "",
	text("cabinet_id", func(w words) protocol.CabinetID { return w.cabinet }),
	b16("epoch", func(w words) protocol.Epoch { return w.epoch }),
	numbers("from_seq", func(w words) uint64 { return w.first }),
	numbers("upto_seq", func(w words) uint64 { return w.last }),
	text("kid", func(w words) string { return w.kid }),
	plain("envelope", "bytea", func(w words) []byte { return w.envelope }),
	times("received_at", func(w words) time.Time { return w.receivedAt }),
)

// queueChanges adds the statements that make the books what they are now.
func (l *loaded) queueChanges(b *pgx.Batch) swap.Changes {
	ch := l.books.Changes()
	writeCursors.queue(b, ch.Cabinets)
	writeRiders.queue(b, ch.Riders)
	writeScans.queue(b, l.newScans)
	writeCredits.queue(b, ch.Credits)
	writeBatteries.queue(b, ch.Batteries)
	writeSwaps.queue(b, ch.Swaps)
	if len(ch.Entries) > 0 {
		b.Queue(`SELECT pg_advisory_xact_lock_shared($1)`, int64(LedgerLock))
	}
	writeLedger.queue(b, ch.Entries)
	queueCounted(b, ch.Entries, l.lane)
	writeDays.queue(b, ch.Days)
	writeReviews.queue(b, ch.Reviews)
	writeDecisions.queue(b, ch.Decisions)
	writeEvents.queue(b, ch.Alarms)
	queueMaintenance(b, ch.Maintenance)
	l.newScans = nil
	for _, s := range ch.Swaps {
		if s.State != swap.StateRequested { // nobody can wait for one that is new
			l.moved = append(l.moved, string(s.SwapID))
		}
	}
	return ch
}

// encode is compact JSON; nil and empty lists are nothing.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil || slices.Contains([]string{"null", "[]"}, string(b)) {
		return nil
	}
	return b
}

// clean is a text that the database takes: valid, without NUL, of bounded length.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s[:min(len(s), maxText)], "?"), "\x00", "?")
}

// maxText bounds a free text that is stored, in bytes.
const maxText = 500
