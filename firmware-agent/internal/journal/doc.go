// Package journal is the agent's append-only file: every fact stands in it,
// synced, before it is acted on or sent.
//
// It knows segments, the hash chain, torn tails and what a device may do to
// unsynced writes; it knows no meaning of a record but SNAPSHOT's place. It
// gives Append (which returns only when the record is on the device), Read for
// shipping, Ack for what the backend has committed, Replay for the fold at boot
// and Inspect for people. It needs a directory of its own, a clock, a source of
// random bits and the encoded state for a snapshot.
//
// # Why
//
// The journal is the one thing that a power cut must not confuse, so it is
// small enough to be tested by cutting it at every byte and by flipping every
// bit. Three rules follow from that.
//
// A record is synced before the next one is written, also within one Append.
// Were a run of records written at once, a power cut could leave a later one
// whole and an earlier one torn, and a damaged record followed by valid ones is
// the mark of corruption, which takes a cabinet out of service.
//
// After a write or sync error nothing is known of the device any more: the
// kernel may have marked unwritten pages clean, so that a second sync succeeds
// without writing. The journal is then read-only until it is opened again, and
// opening reads what the device holds, not what the page cache remembers.
//
// Age is counted in time under power, from the monotonic clocks in the records:
// no wall clock decides when a record may go.
package journal
