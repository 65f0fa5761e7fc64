package web

import (
	"context"
	"time"

	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Staff is what the console and the machines' API need: who is who, what there
// is to see, and what staff do. Who acts is in the context (staff.As). Errors are
// those of package staff, of a decision those of package swap.
type Staff interface {
	Identities
	Sights
	Figures
	Acts
}

// Identities prove who staff are.
type Identities interface {
	BeginTry(ctx context.Context, login, address string) (staff.Try, error)
	OpenSession(ctx context.Context, t staff.Try, p staff.Proof, tokenHash []byte, address string) error
	ConfirmSession(ctx context.Context, t staff.Try, p staff.Proof, tokenHash []byte) error
	StaffSession(ctx context.Context, tokenHash []byte, touch bool) (staff.Session, error)
	EndSession(ctx context.Context, tokenHash []byte) error
	TokenActor(ctx context.Context, tokenHash []byte) (staff.Actor, error)
	// OwnAccount gives the open sessions of a login, and how many recovery codes
	// are left; tokenHash is the session that asks.
	OwnAccount(ctx context.Context, login string, tokenHash []byte) ([]staff.OpenSession, int, error)
	// SetPassword uses up a try that was right, and signs out elsewhere.
	SetPassword(ctx context.Context, t staff.Try, passwordHash string, tokenHash []byte) error
	SetRecovery(ctx context.Context, login string, hashes [][]byte) error
	EndOwnSession(ctx context.Context, login, id string) error
}

// Sights are what staff see.
type Sights interface {
	Fleet(context.Context) ([]staff.Cabinet, error)
	CabinetDetail(context.Context, protocol.CabinetID) (staff.CabinetDetail, error)
	SwapRows(ctx context.Context, cabinet protocol.CabinetID, rider swap.RiderID, below protocol.SwapID) ([]staff.SwapRow, error)
	Story(context.Context, protocol.SwapID) (staff.Story, error)
	Batteries(ctx context.Context, find, mark string) ([]staff.Battery, error)
	BatteryDetail(context.Context, protocol.BatterySerial) (staff.BatteryDetail, error)
	Riders(ctx context.Context, find string) ([]staff.Rider, error)
	RiderDetail(context.Context, swap.RiderID) (staff.RiderDetail, error)
	StaffCredits(context.Context, swap.RiderID) ([]staff.Credit, error)
	Faults(context.Context) ([]staff.Fault, error)
	UnionTree(context.Context) ([]staff.UnionBody, error)
	RollImports(context.Context) ([]staff.RollImport, error)
	RollImport(ctx context.Context, id int64) (staff.RollImport, error)
	// RollFates passes over from rows and gives at most most.
	RollFates(ctx context.Context, id int64, fate roll.Fate, from, most int) ([]staff.RollFate, error)
	Alarms(context.Context) ([]staff.Event, error)
	Reviews(ctx context.Context, f swap.ReviewFilter, cursor int64) ([]swap.ReviewView, int64, error)
	Review(ctx context.Context, id int64) (swap.ReviewCase, error)
	Accounts(context.Context) ([]staff.Account, error)
	Tokens(context.Context) ([]staff.Token, error)
	AuditLines(ctx context.Context, about string, below int64, limit int) ([]staff.Line, error)
}

// Acts are what staff do. Each writes a line of the audit log.
type Acts interface {
	SetSlot(ctx context.Context, id protocol.CabinetID, slot int, out bool, reason string) error
	SetService(ctx context.Context, id protocol.CabinetID, out bool, reason string) error
	EnrolCabinet(context.Context, staff.Enrolment) error
	AcceptEpoch(context.Context, protocol.CabinetID) error
	// OrderMaintenance gives an order to a cabinet, waits a little, and gives how it
	// stands then. The same order again, by its key or while it is under way, is
	// answered as that of before; key may be "".
	OrderMaintenance(ctx context.Context, id protocol.CabinetID, what protocol.Order, slot int, key string) (staff.Order, error)
	MoveCabinet(ctx context.Context, id protocol.CabinetID, station, street, reason string) error
	RetireCabinet(context.Context, protocol.CabinetID) error
	MarkBattery(ctx context.Context, serial protocol.BatterySerial, mark string, on bool, reason string) error
	AssignBattery(ctx context.Context, serial protocol.BatterySerial, to swap.Place) error
	ImportBatteries(context.Context, []staff.NewBattery) (int, error)
	DecideReview(context.Context, swap.ReviewDecision) error
	Hardship(ctx context.Context, reviewID int64, by string) error
	MoveToReview(context.Context, protocol.SwapID) error
	Reveal(ctx context.Context, id swap.RiderID, reason string) (staff.Revealed, error)
	// RiderData is all that is kept about a rider, as JSON.
	RiderData(ctx context.Context, id swap.RiderID, reason string) ([]byte, error)
	ForgetRider(ctx context.Context, id swap.RiderID, reason string) error
	NewRollImport(ctx context.Context, fileName string, file []byte) (int64, error)
	CheckRoll(ctx context.Context, id int64, columns roll.Columns, addBodies bool, first roll.FirstRow) error
	// ImportRoll imports what the check found that had finished at a time: no other.
	ImportRoll(ctx context.Context, id int64, checked time.Time) error
	RenameBody(ctx context.Context, id int64, name string) error
	NewBindingCode(context.Context, swap.RiderID) (string, time.Time, error)
	StaffCredit(context.Context, swap.RiderID) error
	EndDevices(context.Context, swap.RiderID) error
	CloseFault(ctx context.Context, id int64, note string) error
	AddAccount(context.Context, staff.NewAccount) error
	ResetAccount(ctx context.Context, login string, c staff.Credentials) error
	SetAccount(ctx context.Context, login string, roles []staff.Role) error
	EndSessions(ctx context.Context, login string) error
	AddToken(ctx context.Context, name string, roles []staff.Role, tokenHash []byte, expires time.Time) error
	RevokeToken(ctx context.Context, name string) error
}

// Sets of roles that several routes share.
var (
	everyone  = staff.Roles()
	onSite    = []staff.Role{staff.Maintenance}
	fleetWork = []staff.Role{staff.Operator, staff.Maintenance, staff.Admin}
	deciders  = []staff.Role{staff.Operator, staff.Admin}
	riderWork = []staff.Role{staff.Union, staff.Admin}
	riderView = []staff.Role{staff.Operator, staff.Union, staff.Admin}
)
