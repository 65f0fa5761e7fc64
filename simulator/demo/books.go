package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

// Account is what the ledger says of a rider, as `backend audit` prints it.
// Deposits are those that stayed: a battery given back to its rider is none.
type Account struct {
	RiderID     string   `json:"rider_id"`
	Deposits    int      `json:"deposits"`
	Takes       int      `json:"takes"`
	Counted     int      `json:"counted"`
	Issued      int      `json:"issued"`
	OpenCredits int      `json:"open_credits"`
	Batteries   []string `json:"batteries"`
	OpenSwaps   []string `json:"open_swaps"`
	Reviews     int      `json:"reviews"`
}

// Custody is where the books say that a battery is, as `backend audit` prints it.
type Custody struct {
	Serial    string `json:"battery_serial"`
	Holder    string `json:"holder"`
	RiderID   string `json:"rider_id,omitempty"`
	CabinetID string `json:"cabinet_id,omitempty"`
	Slot      int    `json:"slot,omitempty"`
}

// audit is what `backend audit --json` prints.
type audit struct {
	Riders      []Account         `json:"riders"`
	Batteries   []Custody         `json:"batteries"`
	Differences []json.RawMessage `json:"differences"`
	Entries     int64             `json:"entries"`
	Records     int64             `json:"records"`
}

// readBooks asks the backend to audit its books.
func (s *stage) readBooks(ctx context.Context) (audit, error) {
	var a audit
	printed, err := s.tools.Run(ctx, "", "backend", "audit", "--json")
	// Status 1 says that the audit found differences: they are printed.
	if err != nil && (process.ExitStatus(err) != 1 || printed == "") {
		return a, err
	}
	if err := json.Unmarshal([]byte(printed), &a); err != nil {
		return a, fmt.Errorf("backend audit --json: read what it printed: %w", err)
	}
	return a, nil
}

// Physical is what really happened to a rider's batteries.
type Physical struct {
	Deposits  int      `json:"deposits"`
	Takes     int      `json:"takes"`
	Batteries []string `json:"batteries"`
}

// physical folds a world's events into what each rider put in and took out for
// good. A battery that its rider gets back out of the slot before asking for
// another swap was never deposited.
func physical(events []world.Event) map[string]*Physical {
	type deposit struct {
		cabinet, serial string
		slot            int
		scans           int
	}
	all := map[string]*Physical{}
	of := func(person string) *Physical {
		if all[person] == nil {
			all[person] = &Physical{}
		}
		return all[person]
	}
	last := map[string]deposit{} // the last battery that each rider put in
	scans := scansBefore(events)
	for _, o := range world.Openings(events) {
		if o.Taken() != "" && o.TakenBy != "" {
			d, ok := last[o.TakenBy]
			if ok && d.cabinet == o.Cabinet && d.slot == o.Slot && d.serial == o.Taken() && d.scans == scans(o.TakenBy, o.Opened) {
				of(o.TakenBy).Deposits--
			} else {
				of(o.TakenBy).Takes++
			}
			delete(last, o.TakenBy)
		}
		if o.Deposited() != "" && o.PutBy != "" {
			of(o.PutBy).Deposits++
			last[o.PutBy] = deposit{o.Cabinet, o.Deposited(), o.Slot, scans(o.PutBy, o.Opened)}
		}
	}
	return all
}

// scansBefore counts a rider's granted scans up to an event: it tells one swap
// from the next.
func scansBefore(events []world.Event) func(person string, event uint64) int {
	granted := map[string][]uint64{}
	begun := map[string]uint64{}
	for _, e := range events {
		switch e.Kind {
		case world.Scanned:
			begun[e.Person] = e.N
		case world.Answered:
			if e.Cause == answerGranted {
				granted[e.Person] = append(granted[e.Person], begun[e.Person])
			}
		}
	}
	return func(person string, event uint64) int {
		n, _ := slices.BinarySearch(granted[person], event)
		return n
	}
}

// answerGranted is what riders note of a scan that became a swap.
const answerGranted = "granted"

// Row is one rider's world beside the rider's account.
type Row struct {
	RiderID   string   `json:"rider_id"`
	Name      string   `json:"name"`
	Behaviour string   `json:"behaviour,omitempty"`
	Physical  Physical `json:"physical"`
	Ledger    Account  `json:"ledger"`
	// Differs says what is not equal; empty: everything is.
	Differs []string `json:"differs"`
}

// compare holds a rider's account against the world.
func compare(r person, happened Physical, said Account) Row {
	row := Row{RiderID: r.id, Name: r.name, Physical: happened, Ledger: said, Differs: []string{}}
	differ := func(same bool, format string, args ...any) {
		if !same {
			row.Differs = append(row.Differs, fmt.Sprintf(format, args...))
		}
	}
	differ(happened.Deposits == said.Deposits, "deposits: %d in the world, %d in the ledger", happened.Deposits, said.Deposits)
	differ(happened.Takes == said.Takes, "takes: %d in the world, %d in the ledger", happened.Takes, said.Takes)
	differ(said.Counted+said.Issued == said.Takes, "counted %d and issued %d are not the takes %d", said.Counted, said.Issued, said.Takes)
	differ(slices.Equal(happened.Batteries, said.Batteries), "batteries: holds %v, the ledger says %v", happened.Batteries, said.Batteries)
	differ(len(said.OpenSwaps) == 0, "swaps still open: %v", said.OpenSwaps)
	differ(said.Reviews == 0, "%d cases wait for a person", said.Reviews)
	// A rider began with one battery: each deposit without a take is owed.
	owed := said.Deposits - said.Takes
	differ(said.OpenCredits == owed, "open credits: %d, but %d deposits and %d takes", said.OpenCredits, said.Deposits, said.Takes)
	return row
}

// rows compares every rider.
func (s *stage) rows(a audit) []Row {
	happened := physical(s.world.Events(0))
	said := map[string]Account{}
	for _, r := range a.Riders {
		slices.Sort(r.Batteries)
		said[r.RiderID] = r
	}
	var all []Row
	for _, r := range s.riders {
		p := Physical{}
		if h := happened[r.id]; h != nil {
			p = *h
		}
		p.Batteries = slices.DeleteFunc(s.world.Hands(r.id), func(serial string) bool {
			return strings.HasPrefix(serial, foreignPrefix)
		})
		row := compare(r, p, said[r.id])
		if _, known := said[r.id]; !known {
			row.Differs = append(row.Differs, "the ledger does not know this rider")
		}
		all = append(all, row)
	}
	return all
}

// misplaced lists the batteries of the fleet that are elsewhere than the books
// say.
func (s *stage) misplaced(a audit) []string {
	said := map[string]Custody{}
	for _, c := range a.Batteries {
		said[c.Serial] = c
	}
	all := []string{}
	check := func(is Custody) {
		if !strings.HasPrefix(is.Serial, foreignPrefix) && said[is.Serial] != is {
			all = append(all, fmt.Sprintf("is %+v, the books say %+v", is, said[is.Serial]))
		}
	}
	for _, r := range s.riders {
		for _, serial := range s.world.Hands(r.id) {
			check(Custody{Serial: serial, Holder: "rider", RiderID: r.id})
		}
	}
	for _, c := range s.cabinets {
		for _, f := range s.world.Facts(s.now(), c.id) {
			if f.Battery != nil {
				check(Custody{Serial: f.Battery.Serial, Holder: "slot", CabinetID: c.id, Slot: f.Slot})
			}
		}
	}
	return all
}

// foreignPrefix begins the serial of a battery that is not of the fleet.
const foreignPrefix = "FOREIGN"

// strangers are batteries that moved by the hands of nobody we know.
func strangers(happened map[string]*Physical, riders []person) []string {
	var all []string
	for id, p := range happened {
		if !slices.ContainsFunc(riders, func(r person) bool { return r.id == id }) {
			all = append(all, fmt.Sprintf("%q moved %d in and %d out, and is no rider", id, p.Deposits, p.Takes))
		}
	}
	slices.Sort(all)
	return all
}
