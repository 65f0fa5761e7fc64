// Package binding knows how a rider's phone comes to speak for its rider.
//
// It gives the bounds of codes and of guessing, what proves whose a phone is, and
// how a browser is called by its owner. It needs nothing: who keeps codes and
// counts tries is package postgres, who sends them is package notify.
//
// # Why
//
// Whoever asks for a code learns nothing by the answer. A phone of nobody gets a
// code, too, which is sent to nobody; it holds as long, and is tried as often.
// Wrong, too old, used and tried too often are one answer, since each of them
// alone would tell who is a rider.
package binding
