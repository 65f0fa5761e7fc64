// Package swap decides scans and folds a cabinet's records into the books.
//
// It knows the kinds, states and outcomes of a swap and what each of them means
// for ledger, counts, credits, custody and reviews. It gives Decide (what a scan
// becomes), Request, Grant and the staff acts, and Ingest (what a cabinet's
// records do to the books), which is total: there is no record that it cannot
// take. It needs the rows that they touch, handed in as Books by the caller, and
// the time that comes with the input. It is pure: no I/O, no clock.
//
// # Why
//
// A record is a fact; the books only follow. So three rules hold for every
// record, in this order. One that says again what the books already say changes
// nothing. One that the books did not expect is booked for what it says, as far
// as it has one explanation, and makes a review. One that says otherwise than
// the books makes a review and undoes nothing: TAKEN counts once, whatever
// follows. A swap has at most one review, however many of its records disagree.
//
// A CLOSED that comes without the DEPOSIT or TAKEN that its outcome implies (a
// hole in the log, a restored database) is one explanation by itself: the
// missing entries are derived from it, and a person looks. A CLOSED that denies
// a DEPOSIT or TAKEN in the books has two: the swap is closed as a review.
package swap
