// Package swap decides scans and folds a cabinet's records into the books.
//
// It knows the kinds, states and outcomes of a swap and what each of them means
// for ledger, counts, credits, custody and reviews. It gives Decide (what a scan
// becomes) and Apply (what a record does to the books), both total: there is no
// record that they cannot take. It needs the rows that they touch, handed in by
// the caller, and the time that comes with the input. It is pure: no I/O, no
// clock.
package swap
