// Package postgres keeps the books in PostgreSQL.
//
// It knows the tables, the order in which rows are locked, and the one way in
// which a cabinet's records become part of the books: one transaction, and the
// acknowledgement only after its COMMIT. It gives Store (scans, grants, hellos,
// views, staff acts, the audit), Recorder (the one committer of journal
// records) and Notifications. It needs a database of PostgreSQL 15 or later,
// which may be away: calls then fail, and work again by themselves when it is
// back. What the rows mean is decided in package swap; here it is stored.
//
// # Why
//
// Locks are taken in the order cabinet, rider, credit, battery, swap, each
// sorted by its key, by every transaction: so no two of them can wait for each
// other. The cabinet's cursor comes first of all, so whoever holds it is alone
// with that cabinet's swaps.
package postgres
