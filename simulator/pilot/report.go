package pilot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"batteryswap/simulator/process"
)

// Source is what one source says of the pilot.
type Source struct {
	Name  string `json:"name"`
	Swaps int    `json:"swaps"`
	// PerDay is the daily average, rounded half up.
	PerDay int `json:"per_day"`
}

// Report is what a run prints.
type Report struct {
	Equal       bool              `json:"equal"`
	From        string            `json:"from"` // first day, in the street's time
	To          string            `json:"to"`
	Sources     []Source          `json:"sources"`
	Differences []json.RawMessage `json:"audit_differences"`
	Records     int64             `json:"records"` // examined
	Entries     int64             `json:"entries"`
	Scans       int               `json:"scans"`
	Visits      map[fate]int      `json:"visits"`
	Seconds     float64           `json:"seconds"`
}

func (s *stage) report(ctx context.Context, first time.Time) (Report, error) {
	r := Report{From: first.Format(time.DateOnly), To: first.AddDate(0, 0, s.o.Days-1).Format(time.DateOnly)}
	add := func(name string, swaps int) {
		r.Sources = append(r.Sources, Source{Name: name, Swaps: swaps, PerDay: perDay(swaps, s.o.Days)})
	}
	add("world", s.facts.total)
	printed, err := s.tools.Run(ctx, "", "backend", "audit", "--json")
	if err != nil && (process.ExitStatus(err) != 1 || printed == "") { // status 1: there are differences
		return r, err
	}
	var audit struct {
		Riders []struct {
			Counted int `json:"counted"`
		} `json:"riders"`
		Differences []json.RawMessage `json:"differences"`
		Swaps       int               `json:"swaps"`
		Entries     int64             `json:"entries"`
		Records     int64             `json:"records"`
	}
	if err := json.Unmarshal([]byte(printed), &audit); err != nil {
		return r, fmt.Errorf("backend audit --json: read what it printed: %w", err)
	}
	counted := 0
	for _, rider := range audit.Riders {
		counted += rider.Counted
	}
	add("audit", audit.Swaps)
	add("accounts", counted)
	r.Differences, r.Entries, r.Records = audit.Differences, audit.Entries, audit.Records
	own := 0
	for _, p := range s.phones {
		a, err := p.Account(ctx)
		if err != nil {
			return r, err
		}
		own += a.SwapsTotal
	}
	add("riders", own)
	o, err := s.openOffice(ctx, r.From, r.To)
	if err != nil {
		return r, fmt.Errorf("sign in to the console: %w", err)
	}
	read, err := o.sources(ctx)
	if err != nil {
		return r, err
	}
	r.Sources = append(r.Sources, read...)
	r.Equal = len(r.Differences) == 0
	for _, source := range r.Sources {
		r.Equal = r.Equal && source.Swaps == s.o.Swaps && source.PerDay == perDay(s.o.Swaps, s.o.Days)
	}
	return r, nil
}

// perDay is the daily average, rounded half up.
func perDay(swaps, days int) int { return (2*swaps + days) / (2 * days) }

// print writes the report for machines or for people.
func (r *Report) print(out io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	fmt.Fprintf(out, "%s to %s, %d scans, visits %v, %d records and %d entries examined, %.0f s\n\n",
		r.From, r.To, r.Scans, r.Visits, r.Records, r.Entries, r.Seconds)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tswaps\ta day\t")
	for _, s := range r.Sources {
		fmt.Fprintf(table, "%s\t%d\t%d\t\n", s.Name, s.Swaps, s.PerDay)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, d := range r.Differences {
		fmt.Fprintf(out, "AUDIT %s\n", d)
	}
	return nil
}
