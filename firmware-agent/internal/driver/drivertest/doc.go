// Package drivertest is the conformance suite that every kind of board passes,
// and the serial line in memory that it runs on.
//
// It knows what a line and a board do wrong: a board refuses, garbles, stays
// silent, answers late, is dead; a line echoes and doubles what is sent. It gives
// Run, which a driver's own test calls with a board of its kind to talk to, and
// Line, for tests of the bus. It needs package testing: only tests import it.
package drivertest
