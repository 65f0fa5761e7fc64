// Package demo runs the whole system on one machine: the real programs, a
// throwaway PostgreSQL, an embedded broker, simulated cabinets and riders; and
// compares what physically happened with what the ledger says.
//
// It knows how the programs are started, killed and stopped, and which facts of
// the world must be found in the books. It gives Run, and a page by which a
// person moves the batteries of a simulated cabinet. It needs the programs'
// binaries, and those of PostgreSQL unless a database is given. It reads the
// books as anybody may: through the programs, never in the database.
package demo
