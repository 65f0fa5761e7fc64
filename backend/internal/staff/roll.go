package staff

import (
	"time"

	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/swap"
)

// UnionBody is a node of the union's tree, as staff see it.
type UnionBody struct {
	ID     int64  `json:"union_id"`
	Level  string `json:"level" enum:"city,district,street,branch"`
	Name   string `json:"name"`
	Depth  int    `json:"depth" doc:"How many are above it"`
	Riders int    `json:"riders" doc:"Of this body itself"`
}

// States of a roll's import.
const (
	ImportCheck    = "check" // waiting for, or in, a dry run
	ImportChecked  = "checked"
	ImportImport   = "import" // waiting for it, or being imported
	ImportImported = "imported"
	ImportFailed   = "failed"
)

// RollImport is a roll that staff sent, and what became or would become of it.
type RollImport struct {
	ID                                 int64
	FileName, State                    string
	MadeBy                             string
	MadeAt                             time.Time
	FinishedAt                         *time.Time
	Columns                            roll.Columns
	Header                             []string // cells that name the columns, while there is a file
	AddBodies                          bool
	FirstRow                           roll.FirstRow
	Mistake                            string // as roll.ParseFileMistake reads it, "" for none
	Added, Changed, Unchanged, Refused int
	Bodies                             int
	Done, Rows                         int // while it runs
	HasFile                            bool
}

// Running reports whether it is being worked on.
func (i RollImport) Running() bool { return i.State == ImportCheck || i.State == ImportImport }

// RollFate is what becomes of one row.
type RollFate struct {
	Row      int
	Fate     roll.Fate
	RiderID  swap.RiderID
	Fields   []roll.Field
	Mistakes []roll.Mistake
}

// Revealed is who a rider is.
type Revealed struct{ Name, Phone string }
