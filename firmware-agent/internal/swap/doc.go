// Package swap decides what to unlock next.
//
// It knows the whole course of a swap: what a prepare may propose, which grant
// is accepted, when a lock may be pulsed, when a door proves something, and how
// every end is told. It gives three things: Fold, which makes the durable state
// of the journal's records; Machine, which steps from (state, what happened) to
// (state, what to do); and Recovery, which after a restart senses and closes
// what a power cut left open. It needs views of the slots (package slot), the
// time, and random bytes, all of which come in with the input: it is pure.
//
// # Why
//
// What is done stands in a Plan: records to append, words to send, and at most
// one pulse, always last. So a pulse cannot come before its INTENT, and two
// doors cannot be opened by one step. Recovery gives Effects and has no Plan:
// a boot that opens a door does not compile.
//
// Nothing is concluded from a timeout but that no pulse follows. Every end is
// judged by the sensors of slots that are closed, by one function for live swaps
// and for restarts (judge). Where the sensors allow more than one explanation,
// the end is a review.
package swap
