package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"batteryswap/simulator/proxy"
)

// Report is what a run that ends by itself prints.
type Report struct {
	Equal bool   `json:"equal"`
	Seed  uint64 `json:"seed"`
	// Swaps is the number of counted swaps, as riders saw them end.
	Swaps    int            `json:"swaps"`
	Outcomes map[string]int `json:"outcomes"`
	// Kills are how often programs of each kind were killed and started again.
	Kills         map[killKind]int    `json:"kills"`
	NetworkFaults map[proxy.Fault]int `json:"network_faults"`
	// ExactAfter is from the last kill and the last act of a hand until the books
	// were read and found equal to the world, in seconds.
	ExactAfter float64 `json:"exact_after_s"`
	Riders     []Row   `json:"riders"`
	// DifferingRows are those of Riders that are not equal.
	DifferingRows []Row `json:"differing_rows"`
	// Misplaced are batteries that are elsewhere than the books say.
	Misplaced []string `json:"misplaced"`
	// DoorsAtBoot are doors that a starting agent opened.
	DoorsAtBoot []string `json:"doors_at_boot"`
	// Trouble is what else went wrong.
	Trouble       []string          `json:"trouble"`
	Differences   []json.RawMessage `json:"audit_differences"`
	LedgerEntries int64             `json:"ledger_entries"`
	Records       int64             `json:"journal_records"`
	Seconds       float64           `json:"seconds"`
	// SwapSecondsP50 is from a rider's granted scan to the swap's end.
	SwapSecondsP50 float64 `json:"swap_seconds_p50"`
}

// fill works out the report.
func (r *Report) fill(s *stage, st *street, found finding, trouble []string, took time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	events := s.world.Events(0)
	r.Swaps, r.Outcomes, r.Riders = st.counted, st.outcomes, found.rows
	r.Misplaced = append([]string{}, found.misplaced...)
	r.DifferingRows = []Row{}
	behaviours := s.o.Behaviours
	for i := range r.Riders {
		if i < s.o.Riders {
			r.Riders[i].Behaviour = string(behaviours[i%len(behaviours)])
		}
		if len(r.Riders[i].Differs) > 0 {
			r.DifferingRows = append(r.DifferingRows, r.Riders[i])
		}
	}
	r.DoorsAtBoot = append([]string{}, openedAtBoot(events)...)
	r.Trouble = append(append([]string{}, trouble...), st.gaveUp...)
	r.Trouble = append(r.Trouble, strangers(physical(events), s.riders)...)
	if r.Swaps < s.o.Swaps {
		r.Trouble = append(r.Trouble, fmt.Sprintf("%d swaps were counted, %d were asked for", r.Swaps, s.o.Swaps))
	}
	r.Differences, r.LedgerEntries, r.Records = found.books.Differences, found.books.Entries, found.books.Records
	r.Seconds = took.Seconds()
	slices.Sort(st.whole)
	if n := len(st.whole); n > 0 {
		r.SwapSecondsP50 = st.whole[n/2].Seconds()
	}
	r.Equal = len(found.rows) > 0 && len(r.DifferingRows) == 0 && len(r.DoorsAtBoot) == 0 && len(r.Trouble) == 0 &&
		len(r.Differences) == 0 && len(r.Misplaced) == 0
}

// print writes the report for machines or for people.
func (r *Report) print(out io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "rider\tworld: in\tout\tholds\tledger: in\tout\tcounted\tholds\t")
	for _, row := range r.Riders {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%d\t%d\t%d\t%s\t%s\n", row.Name,
			row.Physical.Deposits, row.Physical.Takes, strings.Join(row.Physical.Batteries, " "),
			row.Ledger.Deposits, row.Ledger.Takes, row.Ledger.Counted, strings.Join(row.Ledger.Batteries, " "),
			verdict(row))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d counted swaps %v, %d ledger entries, %d journal records, %.0f s, a swap takes %.1f s (median)\n",
		r.Swaps, r.Outcomes, r.LedgerEntries, r.Records, r.Seconds, r.SwapSecondsP50)
	for _, kind := range killKinds() {
		if n := r.Kills[kind]; n > 0 {
			fmt.Fprintf(out, "%-9s killed %d times\n", kind, n)
		}
	}
	if len(r.NetworkFaults) > 0 {
		fmt.Fprintf(out, "network   %v\n", r.NetworkFaults)
	}
	for _, row := range r.DifferingRows {
		for _, d := range row.Differs {
			fmt.Fprintf(out, "DIFFERS %s (%s): %s\n", row.Name, row.RiderID, d)
		}
	}
	for _, d := range r.Differences {
		fmt.Fprintf(out, "AUDIT %s\n", d)
	}
	for _, d := range slices.Concat(r.Misplaced, r.DoorsAtBoot, r.Trouble) {
		fmt.Fprintf(out, "WRONG %s\n", d)
	}
	if r.Equal {
		fmt.Fprintf(out, "the world and the ledger are equal, %.0f s after the last kill and the last hand, and no door opened at any boot\n",
			r.ExactAfter)
	}
	return nil
}

func verdict(row Row) string {
	if len(row.Differs) == 0 {
		return "equal"
	}
	return "DIFFERS"
}
