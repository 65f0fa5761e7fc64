// Package bus is one serial line with boards on it: one request at a time, and
// a reply only when it is the reply to that request.
//
// It knows the timing of the line and what a line does wrong: replies that come
// late, twice, garbled or not at all, an adapter that repeats what is sent, a
// port that vanishes and returns, a write that blocks for ever. It gives Do,
// which any goroutine may call: requests wait in a bounded queue, an unlock
// before charging before a poll, and none ever interrupts a running one. It
// needs an Opener; it knows no serial port and no language of a board.
//
// # Why
//
// A slave that answers after the master's timeout has its reply taken for the
// answer to the next question, and from then on every answer is one question
// old, without an error. Therefore the line is listened to before each request
// until it has been silent, after a failure for as long as a late reply can
// take, and a reply is accepted only by what it says of itself.
package bus
