package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Options of a Store.
type Options struct {
	Log *slog.Logger // nil: silent
	// RiderRef is what a cabinet may know of a rider. Required to grant.
	RiderRef func(protocol.CabinetID, swap.RiderID) protocol.RiderRef
	// OpenGrant verifies a grant that came back in a cabinet's ACCEPT. It finds
	// swaps again that a restored database has lost; nil: it does not.
	OpenGrant func(cabinet protocol.CabinetID, envelope string) (protocol.Grant, error)
	// Seal keeps the secrets of staff closed. Nil: none can be made, and none that
	// is closed can be read.
	Seal *staff.Seal
	// Vault keeps the phone numbers of riders. Nil: none can be read or written.
	Vault *phone.Vault
	// MessagesPerHour bounds the codes that are sent to all phones; 0:
	// binding.MessagesPerHour.
	MessagesPerHour int
	// WrongPerHour bounds the wrong codes of all phones; 0: binding.WrongPerHour.
	WrongPerHour int
	// MaxConns bounds the pool; 0: 16.
	MaxConns int32
}

func (o Options) messagesPerHour() int { return cmp.Or(o.MessagesPerHour, binding.MessagesPerHour) }

func (o Options) wrongPerHour() int { return cmp.Or(o.WrongPerHour, binding.WrongPerHour) }

// Store is the books in a database. It is safe for concurrent use.
type Store struct {
	pool      *pgxpool.Pool
	o         Options
	log       *slog.Logger
	teller    teller
	decider   *decider
	announcer *announcer
	waiters   *waiters
	lane      int          // of the hours that it counts
	settled   atomic.Int64 // a position that was the ledger's
}

// Channels of NOTIFY.
const (
	channelSwap = "swap"
	channelKeys = "device_keys"
)

// Bounds of a transaction, enforced by the database: whoever stalls while
// holding a cabinet's cursor loses it.
const (
	lockTimeout = 5 * time.Second
	idleTimeout = 15 * time.Second
	maxReruns   = 10
)

// Open makes a Store for the database at url. It does not connect: a database
// that is down is not an error here, a URL that cannot be read is.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	cfg.MaxConns = 16
	if o.MaxConns > 0 {
		cfg.MaxConns = o.MaxConns
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	set := func(name, value string) { cfg.ConnConfig.RuntimeParams[name] = value }
	set("application_name", "batteryswap")
	set("timezone", "UTC")
	set("synchronous_commit", "on")
	set("lock_timeout", fmt.Sprint(lockTimeout.Milliseconds()))
	set("idle_in_transaction_session_timeout", fmt.Sprint(idleTimeout.Milliseconds()))
	// Short lists of keys, the same statements for ever: a plan is made once, for
	// a few rows found by index, and is not compiled.
	set("plan_cache_mode", "force_generic_plan")
	set("jit", "off")
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{pool: pool, o: o, log: o.Log, waiters: newWaiters(), lane: newLane()}
	s.decider, s.announcer = newDecider(s), newAnnouncer(s)
	return s, nil
}

// Close ends all connections. Recorder and Notifications are closed before it.
func (s *Store) Close() {
	s.decider.close()
	s.announcer.close()
	s.teller.drop()
	s.pool.Close()
}

// Ping reports whether the database answers and has the tables.
func (s *Store) Ping(ctx context.Context) error {
	var n int
	if err := s.pool.QueryRow(ctx, "SELECT count(*) FROM fleet").Scan(&n); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// Stat is the state of the connection pool.
func (s *Store) Stat() *pgxpool.Stat { return s.pool.Stat() }

// Errors that a caller tells apart.
var (
	ErrNotFound  = fmt.Errorf("%w", staff.ErrNotFound)
	ErrOld       = errors.New("older than what is in the books")
	ErrKeyReused = errors.New("idempotency key: already used for another scan") // same key, other cabinet or hand_back
)

func newID() protocol.SwapID { return protocol.SwapID(uuid.Must(uuid.NewV7()).String()) }

// transact locks and loads what is wanted, lets decide change the books, writes
// the changes and commits: two round trips. decide may queue statements of its
// own; an error of it rolls back. A transaction that lost a race is rerun.
func (s *Store) transact(ctx context.Context, w wanted, decide func(l *loaded, b *pgx.Batch) error) error {
	return rerun(ctx, func() error {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		// Released within a transaction, a connection is closed: that rolls back.
		defer conn.Release()
		var first pgx.Batch
		first.Queue("BEGIN")
		if w.patience > 0 {
			first.Queue(fmt.Sprintf("SET LOCAL lock_timeout = %d", w.patience.Milliseconds()))
		}
		l := queueLoad(&first, w)
		l.lane = s.lane
		if err := conn.SendBatch(ctx, &first).Close(); err != nil {
			return err
		}
		var second pgx.Batch
		if err := decide(l, &second); err != nil {
			return errors.Join(err, rollback(ctx, conn))
		}
		l.queueChanges(&second)
		if err := commit(ctx, conn, &second); err != nil {
			return err
		}
		s.announcer.tell(l.moved)
		return nil
	})
}

// commit queues COMMIT behind the writes. The database answers ROLLBACK to a
// COMMIT of a transaction that has failed.
func commit(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch) error {
	done := false
	b.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		done = tag.String() == "COMMIT"
		return nil
	})
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if !done {
		return errors.New("commit: rolled back")
	}
	return nil
}

func rollback(ctx context.Context, conn *pgxpool.Conn) error {
	_, err := conn.Exec(ctx, "ROLLBACK")
	return err
}

// rerun repeats what lost a race against another transaction.
func rerun(ctx context.Context, f func() error) error {
	var err error
	for range maxReruns {
		if err = f(); err == nil || !lostRace(err) || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("rerun %d times: %w", maxReruns, err)
}

// SQLSTATEs that are told apart.
const (
	sqlSerialization = "40001"
	sqlDeadlock      = "40P01"
	sqlUnique        = "23505"
	sqlLockTimeout   = "55P03"
)

func lostRace(err error) bool {
	code := sqlState(err)
	return code == sqlDeadlock || code == sqlSerialization
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// isConstraint reports whether err is the named constraint's refusal.
func isConstraint(err error, name string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == sqlUnique && pg.ConstraintName == name
}

// hangUp closes a connection that was taken out of the pool.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // whatever it answers, it is gone
}
