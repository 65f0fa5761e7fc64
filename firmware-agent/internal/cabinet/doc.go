// Package cabinet is the one goroutine that owns the cabinet.
//
// It knows in which order things are done: what was read and what was asked is
// queued, the loop takes it at its own pace, asks the swap machine, and does
// what it says, the journal first. It gives Deliver, Observe and Configure, which
// only enqueue, and Inventory and Stats, which only look. It needs a journal, a
// board, a way to send, the time and random bytes.
//
// Core is the half that decides: it takes inputs and gives effects, without I/O,
// goroutine or clock. Cabinet is the half around it that waits and carries out.
//
// # Why
//
// Callbacks of the broker and of the serial line come from other goroutines and
// at any moment. None of them decides anything: each leaves a fact in a bounded
// queue. A full queue drops and counts, because the backend asks again and the
// line reads again. So no lock protects the swap, and nothing that blocks (the
// journal's sync aside, which must) stands between a fact and a decision.
package cabinet
