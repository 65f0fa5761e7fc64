// Package memory is the books without a database: every operation of the store,
// decided and folded by package swap, on rows in memory.
//
// It knows what package postgres knows beside SQL: what a hello, a scan or a log
// message does in one transaction, and which rows are unique. It gives Store,
// whose methods each are one transaction, and Backup. It needs the time with
// every call, and is driven by one goroutine.
//
// # Why
//
// A simulation of thousands of fleets needs thousands of books that crash, lose
// nothing that was committed, and are restored from old backups, within
// milliseconds. A test holds this store and the one in PostgreSQL together.
package memory
